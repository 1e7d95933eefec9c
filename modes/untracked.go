package modes

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// Capture without connection tracking judges every packet by itself, where nat judges
// the first one of a connection and conntrack remembers. So what tells packets apart
// must be on each of them, those of closed sockets and of SYN cookies too: the marks.
// The proxy's own, which its sockets have, lets a packet leave as it is. The mark of
// routing.mark has it delivered over lo, where the outbound listener's connected socket,
// or the listener, is found by tproxy; that of routing.loopMark takes the proxy's call
// to its own pod to the inbound listener.

const (
	conntrackUsed = "used"
	conntrackNone = "none"

	prerouting = "prerouting"
	output     = "output"
)

// bareSYN are the flags of a packet that opens a connection, among those that tell.
const bareSYN, tellingFlags = rules.SYN, rules.FIN | rules.SYN | rules.RST | rules.ACK

func opens() rules.Match { return rules.TCPFlags.Masked(bareSYN, tellingFlags) }

// untrackedState writes the ruleset: as few rules before the common verdicts as the
// configuration allows, since every packet meets them.
func (s *sidecar) untrackedState() rules.State {
	w := newWriter(s.table, s.families)
	s.untrackedPrerouting(w)
	s.untrackedOutput(w)
	s.guard(w)
	state := rules.State{Table: w.table, Addresses: s.lo, Untracked: true, ProxyMark: s.mark, ProxyMask: s.markMask}
	s.deliverLooped(&state)
	if s.answersByMark() {
		state.Sysctls = s.answerSettings()
	}
	return state
}

// proxyMark matches what the proxy sends.
func (s *sidecar) proxyMark() rules.Match { return rules.MetaMark.Masked(s.mark, s.markMask) }

func (s *sidecar) setProxyMark() rules.Assign { return rules.MetaMark.SetMasked(s.mark, s.markMask) }

// ownCall matches the proxy's calls to its own pod.
func (s *sidecar) ownCall() rules.Match { return rules.MetaMark.Masked(s.loopMark, s.loopMask) }

// answersByMark reports whether the application's answers to what is not captured are told
// by the mark that its sockets inherit, for where few ports are captured or none, or some
// sources are not, the source port says nothing: it may be one of the application's own
// connections.
func (s *sidecar) answersByMark() bool {
	return s.inbound.via == viaNone || !s.inbound.all || len(s.sources) > 0
}

func (s *sidecar) answerSettings() []rules.Sysctl {
	const why = "connections to ports that are not captured are answered as they are"
	settings := []rules.Sysctl{
		{Name: "net/ipv4/tcp_fwmark_accept", Value: "1", Why: why},
		{Name: "net/ipv4/fwmark_reflect", Value: "1", Why: why},
	}
	if s.ipv6() {
		settings = append(settings, rules.Sysctl{Name: "net/ipv6/fwmark_reflect", Value: "1", Why: why})
	}
	return settings
}

// datagrams reports whether UDP is looked at.
func (s *sidecar) datagrams() bool {
	return s.dns.capture != dnsNone || len(s.udpOut.include)+len(s.udpIn.include) > 0
}

// protocols leaves alone what is not looked at, and has conntrack, should anyone else
// have switched it on, pass over the rest.
func (s *sidecar) protocols(c *chainWriter, datagrams string) {
	if s.datagrams() {
		c.add("UDP has rules of its own", rules.L4Proto.Is(rules.UDP), rules.Goto(datagrams))
	}
	c.add("only TCP and what is listed of UDP is captured", not(rules.L4Proto.Is(rules.TCP)), rules.Return())
	c.add("no connection is tracked", rules.NoTrack{})
}

func (s *sidecar) untrackedPrerouting(w *writer) {
	in := w.base(prerouting, rules.FilterType, rules.Prerouting, rules.PriorityRaw)
	s.protocols(in, "udp_"+prerouting)
	in.add("over lo comes what this pod sends to itself, and what is captured of it", rules.IIfName.Is("lo"), rules.Goto("from_lo"))
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
			rules.FibDaddrType.Is(rules.Local), s.setProxyMark())
	}
	in.listed("inbound_exclude_ports", rules.TCPDport, s.directPorts(), why, direct...)
	if len(s.sources) > 0 {
		in.add(sourceAlone, append([]rules.Node{rules.Saddr.InSet(in.prefixes(sourceSet, s.sources))}, direct...)...)
	}
	switch {
	case s.inbound.via == viaNone:
	case s.inbound.all:
		in.add("all other TCP that comes in goes to the inbound listener", deliver)
		return
	default:
		in.ports("inbound_include_ports", rules.TCPDport, s.inbound.include, "an included inbound port goes to the inbound listener", deliver)
	}
	in.add("all else is left alone", direct...)
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
		lo.add("what the application sends elsewhere goes to the outbound listener", s.routing.marked(), rules.Goto("deliver_outbound"))
	}
	if s.ownCalls {
		lo.add("the proxy's call to its own pod goes to the inbound listener", s.ownCall(), rules.Goto("deliver_inbound"))
	}
	if s.outbound.via != viaNone && s.excludesDestinations() {
		lo.add("the proxy speaks with a client's address: a socket that takes it inherits the mark of what is captured",
			not(rules.FibSaddrType.Is(rules.Local)), s.routing.setMark())
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

// loops reports whether anything that this pod sends is delivered over lo by its mark.
func (s *sidecar) loops() bool {
	return s.outbound.via != viaNone || s.dns.capture == dnsAll || len(s.udpOut.include)+len(s.udpIn.include) > 0
}

func (s *sidecar) untrackedOutput(w *writer) {
	out := w.base(output, rules.RouteType, rules.Output, rules.PriorityRaw)
	s.protocols(out, "udp_"+output)
	if s.excludesInterface("lo") {
		s.answersOverTCP(out)
	}
	out.interfaces("exclude_interfaces", rules.OIfName, s.exclude, "traffic of an excluded interface is left alone")
	out.add("what this pod sends to itself stays here", rules.OIfName.Is("lo"), rules.Goto("to_lo"))
	out.add("the proxy's own traffic is not captured", s.proxyMark(), rules.Return())
	if s.loops() && !s.linkLocal {
		out.leaveLinkLocal(rules.Return())
	}
	s.toLoopback(w)
	if s.outbound.via != viaNone && s.excludesDestinations() {
		out.add("an answer by a socket that inherited the mark is captured", s.routing.marked(), rules.Return())
	}
	for _, owner := range s.owners(w)[1:] { // the mark is the first
		out.add("the proxy's own traffic is not captured", owner, rules.Return())
	}
	if !s.answersByMark() {
		out.listed("inbound_exclude_ports", rules.TCPSport, s.directPorts(), "an answer from a port that is not captured goes as it is",
			not(opens()), rules.Return())
	}
	s.queriesOverTCP(out, rules.Jump("dns_tcp"))
	if s.outbound.via != viaNone {
		s.untrackedDestinations(out)
	}
	s.stateless(w)
	if s.datagrams() {
		s.udpOutput(w)
	}
}

// excludesDestinations reports whether some of what the application sends elsewhere is
// left alone, by where it goes.
func (s *sidecar) excludesDestinations() bool {
	return len(s.outbound.exclude)+len(s.cidrs.exclude)+len(s.exclude) > 0 || !s.cidrs.all
}

// untrackedDestinations loops what is captured by where it goes.
func (s *sidecar) untrackedDestinations(out *chainWriter) {
	const why = "all other TCP is looped, to the outbound listener"
	loop := s.routing.setMark()
	out.ports("outbound_exclude_ports", rules.TCPDport, s.outbound.exclude, "an excluded outbound port is left alone", rules.Return())
	if len(s.cidrs.exclude) > 0 {
		out.add("an excluded destination is left alone", rules.Daddr.InSet(out.prefixes("outbound_exclude", s.cidrs.exclude)), rules.Return())
	}
	if s.cidrs.all {
		out.add(why, loop)
		return
	}
	out.ports("outbound_include_ports", rules.TCPDport, s.outboundPorts, "an included TCP port is looped, whatever the destination", loop)
	if len(s.cidrs.include) > 0 {
		out.add("TCP to an included destination is looped, to the outbound listener",
			rules.Daddr.InSet(out.prefixes("outbound_include", s.cidrs.include)), loop)
	}
}

// toLoopback marks the proxy's calls to its own pod, on every packet of them: with SYN
// cookies it is no SYN that opens a connection.
func (s *sidecar) toLoopback(w *writer) {
	lo := w.chain("to_lo")
	owners := s.owners(w)
	if len(owners) == 1 && s.localStays() && s.dns.capture == dnsNone {
		lo.add("the application's calls to its own pod stay as they are", not(s.proxyMark()), rules.Return())
	}
	if len(s.passthrough) > 0 {
		lo.add("the proxy calls the application from a passthrough address", rules.Saddr.In(s.passthrough...), rules.Return())
	}
	s.ownQueries(lo)
	lo.add("loopback addresses stay as they are", rules.Daddr.In(s.loopback...), rules.Return())
	lo.ports("outbound_exclude_ports", rules.TCPDport, s.outbound.exclude, "an excluded outbound port is left alone, the proxy's own too", rules.Return())
	for _, owner := range owners {
		group := len(owner.Key) == 1 && owner.Key[0] == rules.Selector(rules.SkGID) && len(s.uids) > 0 && s.localStays()
		if s.ownCalls && !group { // as with redirect
			lo.add("the proxy may be calling its own pod", owner, rules.Goto("own_call"))
		} else {
			lo.add("the proxy's calls to its own pod stay as they are", owner, rules.Return())
		}
	}
	if s.localStays() && s.dns.capture != dnsNone {
		lo.add("the application's calls to its own pod stay as they are, but for queries", not(rules.TCPDport.Is(dnsPort)), rules.Return())
	}
	if s.outbound.via != viaNone && (!s.localStays() || s.dns.capture != dnsNone) {
		s.untrackedDestinations(lo)
	}
	if !s.ownCalls {
		return
	}
	call := w.chain("own_call")
	if len(s.tunnel) > 0 {
		call.add("the proxy's tunnel listener is reached as it is", rules.TCPDport.Within(s.tunnel...), rules.Return())
	}
	if s.dns.capture != dnsNone {
		call.add("the proxy's queries to a resolver in its pod stay as they are", rules.TCPDport.Is(dnsPort), rules.Return())
	}
	call.add("the proxy speaks with another's address", not(rules.FibSaddrType.Is(rules.Local)), rules.Return())
	call.add("the proxy's call to its own pod is marked, to be captured as it comes in", rules.MetaMark.SetMasked(s.loopMark, s.loopMask))
}

// guard keeps what is looped from leaving where the policy rule is missing, or a socket
// is bound to an interface.
func (s *sidecar) guard(w *writer) {
	if !s.loops() {
		return
	}
	out := w.base("guard", rules.FilterType, rules.Postrouting, rules.PriorityFilter)
	out.add("what is looped never leaves this pod", s.routing.marked(), not(rules.OIfName.Is("lo")),
		rules.L4Proto.In(rules.TCP, rules.UDP), rules.Drop())
}

// forwarded takes what comes from a virtual machine behind an interface to the outbound
// listener. It is for another host: the proxy's mark, which needs no other here, has a
// policy rule deliver it.
func (s *sidecar) forwarded(in *chainWriter) {
	if !s.reroute.any() {
		return
	}
	if s.outbound.via == viaNone {
		alone := func(from []rules.Node) {
			in.add("what comes from a rerouted interface is left alone", append(from, rules.Return())...)
		}
		s.reroute.rules(in, alone, alone)
		return
	}
	const ignoring, honouring, deliver = "rerouted_ignoring", "rerouted", "deliver_rerouted"
	to := func(chain string) func([]rules.Node) {
		return func(from []rules.Node) {
			in.add("TCP of a rerouted interface counts as outbound", append(from, rules.Goto(chain))...)
		}
	}
	s.reroute.rules(in, to(ignoring), to(honouring))
	for _, part := range []struct {
		chain   string
		some    bool
		exclude bool
	}{{ignoring, len(s.reroute.ignoring) > 0, false}, {honouring, len(s.reroute.honouring) > 0, true}} {
		if part.some {
			s.counted(in.chain(part.chain), part.exclude, rules.Goto(deliver))
		}
	}
	machine := in.chain(deliver)
	machine.add("the connection's socket takes it, else the outbound listener",
		rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: s.outbound.first()}, s.setProxyMark(), rules.Accept())
	machine.add("nothing listens for it: refused at once", opens(), rules.Reject{})
}

// counted takes what is captured of a rerouted interface on.
func (s *sidecar) counted(c *chainWriter, exclude bool, then rules.Node) {
	if exclude {
		c.ports("outbound_exclude_ports", rules.TCPDport, s.outbound.exclude, "an excluded outbound port is left alone", rules.Return())
		if len(s.cidrs.exclude) > 0 {
			c.add("an excluded destination is left alone", rules.Daddr.InSet(c.prefixes("outbound_exclude", s.cidrs.exclude)), rules.Return())
		}
		if !s.cidrs.all {
			c.ports("outbound_include_ports", rules.TCPDport, s.outboundPorts, "an included TCP port goes to the outbound listener", then)
		}
	}
	const why = "TCP of a rerouted interface goes to the outbound listener"
	switch {
	case s.cidrs.all:
		c.add(why, then)
	case len(s.cidrs.include) > 0:
		c.add(why, rules.Daddr.InSet(c.prefixes("outbound_include", s.cidrs.include)), then)
	}
}

// deliverLooped adds the policy rules and the route: only what is sent here is looked
// up by the mark of what is looped, so that nothing that arrives can have it. What arrives
// with the proxy's mark was given to a socket here.
func (s *sidecar) deliverLooped(state *rules.State) {
	g := s.routing
	if s.loops() {
		g.deliver(state)
		for i := range state.PolicyRules {
			state.PolicyRules[i].In = "lo"
		}
	}
	if s.inbound.via == viaNone && !s.ownCalls && !s.reroute.any() {
		return
	}
	by := rules.State{}
	g.mark, g.mask, g.priority = s.mark, s.markMask, max(g.priority, 2)-1
	g.deliver(&by)
	for _, r := range by.PolicyRules {
		out := r
		out.Priority, out.Table, out.In, out.Goto = r.Priority-1, 0, "lo", mainPriority
		state.PolicyRules = append(state.PolicyRules, out, r)
	}
	if !s.loops() {
		state.Routes = by.Routes
	}
}
