// SPDX-License-Identifier: Apache-2.0

package modes

import "github.com/weir-mesh/weir/rules"

func (s *sidecar) untrackedOutput(w *writer) {
	out := w.base(output, rules.RouteType, rules.Output, rules.PriorityRaw)
	s.protocols(out, "udp_"+output)
	if s.excludesInterface("lo") {
		s.answersOverTCP(out)
	}
	out.interfaces("exclude_interfaces", rules.OIfName, s.exclude, "traffic of an excluded interface is left alone")
	out.lead("what this pod sends to itself stays here", rules.OIf.Is(loopbackIndex), rules.Goto("to_lo"))
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
		s.directAnswers(out)
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

// directAnswers lets the application's answers from ports that are not captured go. All
// that it sends elsewhere meets this rule, and most of it comes from ports far above: they
// are compared with the lowest and the highest before the set is looked up.
func (s *sidecar) directAnswers(out *chainWriter) {
	ports := s.directPorts()
	if len(ports) == 0 {
		return
	}
	out.add("an answer from a port that is not captured goes as it is", rules.TCPSport.Within(bounds(ports)),
		rules.TCPSport.InSet(portSet(out.writer, "inbound_exclude_ports", ports)), not(opens()), rules.Return())
}

// bounds is the range from the lowest of the ports to the highest.
func bounds(ports []rules.Range) rules.Range {
	all := ports[0]
	for _, p := range ports[1:] {
		all.Lo, all.Hi = min(all.Lo, p.Lo), max(all.Hi, p.Hi)
	}
	return all
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
	alone := len(owners) == 1 && s.localStays() && s.dns.capture == dnsNone // the mark tells all that is captured
	if alone {
		lo.add("the application's calls to its own pod stay as they are", not(s.proxyMark()), rules.Return())
	}
	if s.ownCalls { // first, since every answer that the proxy gives comes by
		match := []rules.Node{not(rules.FibSaddr.Type().Is(rules.Local)), rules.Return()}
		if !alone {
			match = append([]rules.Node{s.proxyMark()}, match...)
		}
		lo.add("the proxy answers, or speaks with another's address", match...)
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
	if len(owners) > 1 { // those without the mark
		call.add("the proxy speaks with another's address", not(rules.FibSaddr.Type().Is(rules.Local)), rules.Return())
	}
	call.add("the proxy's call to its own pod is marked, to be captured as it comes in", rules.MetaMark.SetMasked(s.loopMark, s.loopMask))
}

// guard keeps what is looped from leaving where the policy rule is missing, or a socket
// is bound to an interface.
func (s *sidecar) guard(w *writer) {
	if !s.loops() {
		return
	}
	out := w.base("guard", rules.FilterType, rules.Postrouting, rules.PriorityFilter)
	out.add("what is looped never leaves this pod", not(rules.OIf.Is(loopbackIndex)), s.routing.marked(),
		rules.L4Proto.In(rules.TCP, rules.UDP), rules.Drop())
}
