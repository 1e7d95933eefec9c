// SPDX-License-Identifier: Apache-2.0

package modes

import "github.com/weir-mesh/weir/rules"

// manglePrerouting hands what arrives to the inbound listener's transparent
// socket, unchanged. It has no exception for the tunnel port: on purpose, as in
// the reference.
func (s *sidecar) manglePrerouting(w *writer) {
	in := w.base("mangle_prerouting", rules.FilterType, rules.Prerouting, rules.PriorityMangle)
	if s.marks() {
		in.interfaces("exclude_interfaces", rules.IIfName, s.exclude, "traffic of an excluded interface is left alone")
	}
	if s.dropInvalid {
		in.add("packets that conntrack calls invalid are dropped", rules.CTStates.AnyOf(rules.CTInvalid), rules.Drop())
	}
	if !s.marks() {
		return
	}
	const inbound = "tproxy_inbound"
	if s.inbound.via == viaTProxy {
		in.add("what comes in may be for the inbound listener", rules.L4Proto.Is(rules.TCP), rules.Jump(inbound))
	}
	// Over lo alone: while a replace has two tables in force, what the other one
	// diverted has the mark too, and to remember that would turn answers back.
	in.add("a connection that the proxy opened with the client's address is remembered",
		rules.IIfName.Is("lo"), rules.L4Proto.Is(rules.TCP), s.routing.marked(), rules.CTMark.SetMasked(s.routing.mark, s.routing.mask))
	if s.inbound.via == viaTProxy {
		s.tproxyInbound(w, w.chain(inbound))
	}
}

func (s *sidecar) tproxyInbound(w *writer, in *chainWriter) {
	in.add("the proxy speaks with the client's address", s.routing.marked(), rules.Return())
	if len(s.passthrough) > 0 {
		in.add("the proxy calls the application from a passthrough address",
			rules.IIfName.Is("lo"), rules.Saddr.In(s.passthrough...), rules.Return())
	}
	in.add("of lo, only the proxy's calls to its own pod are inbound",
		rules.IIfName.Is("lo"), not(rules.MetaMark.Masked(s.loopMark, s.loopMask)), rules.Return())
	in.sources(s.sources)
	// What is for an address of the pod's own is delivered here anyway. With the mark it
	// would be looked up by it where its source is validated, by src_valid_mark or a
	// foreign `fib saddr . mark`: the way back would lead here, and the packet be dropped.
	divert := w.chain("tproxy_divert")
	divert.add("this pod's own address needs no mark", rules.FibDaddr.Type().Is(rules.Local), rules.Accept())
	divert.add("another destination is delivered here by its mark", s.routing.setMark(), rules.Accept())
	// One rule for both families: nft refuses a tproxy that names no family after
	// a match on an address.
	deliver := w.chain("tproxy_deliver")
	deliver.add("loopback addresses stay as they are", rules.Daddr.In(s.loopback...), rules.Return())
	deliver.add("a new connection goes to the inbound listener, addresses unchanged",
		rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: s.inbound.first()}, rules.Goto(divert.Name))
	// tproxy ends its rule where no transparent socket takes the packet. A SYN alone is
	// dropped: what follows it may be of a connection that was open before these rules.
	deliver.add("nothing listens for it: dropped, else it would reach the application past the proxy",
		rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK), rules.Drop())
	if s.inbound.all {
		in.ports("inbound_exclude_ports", rules.TCPDport, s.inbound.exclude, "an excluded inbound port is reached as it is", rules.Return())
		in.add("an open connection stays with its socket", rules.CTStates.AnyOf(rules.CTEstablished|rules.CTRelated), rules.Goto(divert.Name))
		in.add("a new connection goes to the inbound listener", rules.Jump(deliver.Name))
		return
	}
	included := rules.TCPDport.InSet(portSet(w, "inbound_include_ports", s.inbound.include))
	in.add("an open connection to an included port stays with its socket", included, rules.CTStates.AnyOf(rules.CTEstablished|rules.CTRelated), rules.Goto(divert.Name))
	in.add("an included inbound port goes to the inbound listener", included, rules.Jump(deliver.Name))
}

// mangleOutput marks what is to come back over lo. It is a route chain: a
// changed mark sends the packet by another route.
func (s *sidecar) mangleOutput(w *writer) {
	out := w.base("mangle_output", rules.RouteType, rules.Output, rules.PriorityMangle)
	out.interfaces("exclude_interfaces", rules.OIfName, s.exclude, "traffic of an excluded interface is left alone")
	out.add("the proxy speaks to the application with the client's address",
		rules.L4Proto.Is(rules.TCP), rules.OIfName.Is("lo"), s.routing.marked(), rules.Return())
	for _, owner := range s.callers(w) {
		out.add("the proxy's call to its own pod is marked, to be captured as it comes in",
			rules.L4Proto.Is(rules.TCP), rules.OIfName.Is("lo"), rules.Daddr.NotIn(s.loopback...), owner, rules.MetaMark.SetMasked(s.loopMark, s.loopMask))
	}
	out.add("the application's answer goes back through the proxy",
		rules.L4Proto.Is(rules.TCP), rules.CTMark.Masked(s.routing.mark, s.routing.mask), s.routing.setMark())
}
