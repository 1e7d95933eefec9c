// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

func (s *sidecar) untrackedPrerouting(w *writer) {
	in := w.base(prerouting, rules.FilterType, rules.Prerouting, rules.PriorityRaw)
	s.protocols(in, "udp_"+prerouting)
	in.lead("over lo comes what this pod sends to itself, and what is captured of it", rules.IIf.Is(loopbackIndex), rules.Goto("from_lo"))
	in.interfaces("exclude_interfaces", rules.IIfName, s.exclude, "traffic of an excluded interface is left alone")
	s.forwarded(in)
	s.incoming(in)
	s.fromLoopback(w)
	if s.ownCalls || s.inbound.via != viaNone {
		s.deliverInbound(w)
	}
	if s.loops() {
		s.deliverOutbound(w)
	}
	if s.datagrams() {
		s.udpPrerouting(w)
	}
}

// incoming takes what comes in to the inbound listener, and has the application answer
// the rest as it is.
func (s *sidecar) incoming(in *chainWriter) {
	const why = "the proxy's tunnel listener and excluded ports are reached as they are"
	deliver, direct := rules.Goto("deliver_inbound"), []rules.Node{rules.Return()}
	if s.answersByMark() {
		direct = []rules.Node{rules.Goto("direct")}
		answered := in.chain("direct")
		answered.add("what is not captured is answered as it is: the socket that takes it inherits the mark",
			rules.FibDaddr.Type().Is(rules.Local), s.setProxyMark())
	}
	if s.inbound.via != viaNone {
		s.keepWithSocket(in)
	}
	in.listed("inbound_exclude_ports", rules.TCPDport, s.directPorts(), why, direct...)
	if len(s.sources) > 0 {
		in.add(sourceAlone, append([]rules.Node{rules.Saddr.InSet(in.prefixes(sourceSet, s.sources))}, direct...)...)
	}
	switch {
	case s.inbound.via == viaNone:
	case s.inbound.all:
		in.lead("all other TCP that comes in goes to the inbound listener", deliver)
		return
	default:
		in.ports("inbound_include_ports", rules.TCPDport, s.inbound.include, "an included inbound port goes to the inbound listener", deliver)
	}
	in.add("all else is left alone", direct...)
}

// keepWithSocket has the packets of connections that the proxy holds go on as they are: the
// kernel finds their socket by itself, with its route, which what tproxy assigns a socket to
// is looked up for again. A listener of the proxy's for another port is none of theirs,
// though with SYN cookies it is the only socket there is.
func (s *sidecar) keepWithSocket(in *chainWriter) {
	match := []rules.Node{not(opens())}
	if others := s.otherListeners(); len(others) > 0 {
		match = append(match, rules.TCPDport.NotIn(others...))
	}
	in.add("a connection of the proxy's stays with its socket; by the mark, though it may be for another host",
		append(match, rules.SocketTransparent.Is(true), s.setProxyMark(), rules.Accept())...)
}

// otherListeners are the ports of transparent listeners that nothing which comes in is for.
func (s *sidecar) otherListeners() (ports []rules.Port) {
	if s.outbound.via != viaNone && s.outbound.first() != s.inbound.first() {
		ports = append(ports, s.outbound.first())
	}
	if s.dns.capture != dnsNone {
		ports = append(ports, s.dns.port)
	}
	return ports
}

// directPorts are those that are reached past the proxy where all others are captured.
func (s *sidecar) directPorts() []rules.Range {
	if !s.inbound.all {
		return s.tunnel
	}
	return slices.Concat(s.tunnel, s.inbound.exclude)
}

// fromLoopback takes what the output chain marked to the listeners.
func (s *sidecar) fromLoopback(w *writer) {
	lo := w.chain("from_lo")
	if s.loops() {
		lo.lead("what the application sends elsewhere goes to the outbound listener", s.routing.marked(), rules.Goto("deliver_outbound"))
	}
	if s.ownCalls {
		lo.lead("the proxy's call to its own pod goes to the inbound listener", s.ownCall(), rules.Goto("deliver_inbound"))
	}
	if s.outbound.via != viaNone && s.excludesDestinations() {
		lo.add("the proxy speaks with a client's address: a socket that takes it inherits the mark of what is captured",
			not(rules.FibSaddr.Type().Is(rules.Local)), s.routing.setMark())
	}
	if s.loops() {
		lo.add("the proxy's mark ends here: a socket or an answer of the kernel's that inherited it would leave past the proxy",
			s.proxyMark(), rules.MetaMark.SetMasked(0, s.markMask))
	}
}

// deliverInbound hands packets to the inbound listener. tproxy ends its rule where no
// transparent socket takes the packet: a SYN alone is dropped then. To refuse it would
// take a reset that the client gets, and that would be looped.
func (s *sidecar) deliverInbound(w *writer) {
	in := w.chain("deliver_inbound")
	in.add("the connection's socket takes it, else the inbound listener; by the mark, though it may be for another host",
		rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: s.inbound.first()}, s.setProxyMark(), rules.Accept())
	in.add("nothing listens for it: dropped, else it would reach the application past the proxy", opens(), rules.Drop())
}

func (s *sidecar) deliverOutbound(w *writer) {
	out := w.chain("deliver_outbound")
	if s.dns.capture == dnsAll {
		out.add("queries go to the proxy's DNS listener", rules.TCPDport.Is(dnsPort), rules.TProxy{Port: s.dns.port}, rules.Accept())
	}
	if s.outbound.via != viaNone {
		out.add("the connection's socket takes it, else the outbound listener", rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: s.outbound.first()}, rules.Accept())
	}
	out.add("nothing listens for it: refused at once", opens(), rules.Reject{})
}
