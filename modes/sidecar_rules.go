// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// state writes the ruleset. The order of its rules, and what looks odd in it,
// is that of istio-init: the same packets are to meet the same fate.
func (s *sidecar) state() rules.State {
	if s.untracked {
		return s.untrackedState()
	}
	w := newWriter(s.table, s.families)
	if s.marks() || s.dropInvalid {
		s.manglePrerouting(w)
	}
	if s.inbound.via == viaRedirect || s.reroute.any() {
		s.natPrerouting(w)
	}
	if s.dns.zoned() {
		s.rawOutput(w)
	}
	if s.marks() {
		s.mangleOutput(w)
	}
	s.natOutput(w)
	if s.capturesOutbound() {
		w.guardLoopback()
	}
	state := rules.State{Table: w.table, Addresses: s.lo}
	if s.capturesOutbound() {
		state.Routes = s.bound
	}
	if s.marks() {
		s.routing.deliver(&state)
	}
	return state
}

// capturesOutbound reports whether anything that this pod sends goes to the proxy.
func (s *sidecar) capturesOutbound() bool {
	return s.outbound.via != viaNone || s.dns.capture != dnsNone
}

// natOutput takes what the application opens to the outbound listener, and what
// the proxy sends to its own pod to the inbound one.
func (s *sidecar) natOutput(w *writer) {
	out := w.base("output", rules.NATType, rules.Output, rules.PriorityDstNAT)
	out.interfaces("exclude_interfaces", rules.OIfName, s.exclude, "traffic of an excluded interface is left alone")
	if s.capturesOutbound() && !s.linkLocal {
		out.leaveLinkLocal(rules.Return())
	}
	if s.dns.first() {
		s.proxyQueriesLeft(out)
		s.queries(out)
	}
	if s.dns.notDestinations() {
		s.excludedDestinations(out)
	}
	out.ports("outbound_exclude_ports", rules.TCPDport, s.outbound.exclude, "an excluded outbound port is left alone, the proxy's own too", rules.Return())
	out.excluded(s.excluded, true)
	if s.dns.captures(false) && !s.dns.first() {
		out.ports("outbound_exclude_ports", rules.UDPDport, s.outbound.exclude, "an excluded outbound port is left alone, DNS too", rules.Return())
		out.excluded(s.excluded, false)
	}
	if len(s.passthrough) > 0 {
		out.add("the proxy calls the application from a passthrough address",
			rules.OIfName.Is("lo"), rules.Saddr.In(s.passthrough...), rules.Return())
	}
	s.proxyTraffic(out)
	s.ownerGroups(w, out)
}

// proxyTraffic keeps the proxy from being captured twice. What it sends to a
// service of its own pod, over lo, is inbound there; all else of it leaves.
//
// Of several UIDs only the first one's calls to its own pod are captured, since
// the rule that leaves the rest of lo alone comes before the second one's: on
// purpose, as in the reference. "Not owned by the proxy" is what is left after
// matches that say "owned by": nft's `skuid !=` would miss packets of kernel
// sockets, which xtables' `! --uid-owner` matches.
func (s *sidecar) proxyTraffic(out *chainWriter) {
	tunnelAndDNS := s.tunnel
	if s.dns.captures(true) {
		tunnelAndDNS = append(slices.Clone(s.tunnel), rules.RangeOf(dnsPort)) // else app, DNS listener, inbound listener and resolver make a circle
	}
	const calls, leaves = "the proxy's call to its own pod goes through the inbound listener", "the proxy's own traffic is not captured"
	call := func(why string, but []rules.Range, owner rules.Match) {
		if s.ownCalls {
			out.add(why, rules.OIfName.Is("lo"), rules.Daddr.NotIn(s.loopback...), tcpBut(but), owner, s.inbound.redirect())
		}
	}
	if s.markMask != 0 {
		marked := rules.MetaMark.Masked(s.mark, s.markMask)
		call(calls, tunnelAndDNS, marked)
		out.add(leaves, marked, rules.Return())
	}
	localStays := s.localStays()
	if len(s.uids) > 0 {
		owner := rules.SkUID.InSet(set(out.writer, ProxyUIDs, rules.SkUID, s.uids))
		if localStays && len(s.uids) > 1 {
			call("a call to its own pod by the proxy's first user goes through the inbound listener", tunnelAndDNS, rules.SkUID.Within(s.uids[0]))
		} else {
			call(calls, tunnelAndDNS, owner)
		}
		out.add(leaves, owner, rules.Return())
	}
	stays := func() {
		const why = "the application's calls to its own pod stay as they are"
		switch {
		case s.dns.captures(true):
			out.add(why, rules.OIfName.Is("lo"), rules.TCPDport.Not(dnsPort), rules.Return())
		case s.dns.captures(false):
			out.add(why, rules.OIfName.Is("lo"), rules.L4Proto.Is(rules.TCP), rules.Return())
		default:
			out.add(why, rules.OIfName.Is("lo"), rules.Return())
		}
	}
	if localStays && len(s.uids) > 0 {
		stays()
	}
	if len(s.gids) > 0 {
		proxyGIDs := set(out.writer, "proxy_gids", rules.SkGID, s.gids)
		if !localStays || len(s.uids) == 0 || s.dns.capture != dnsNone { // else nothing on lo comes this far
			call(calls, s.tunnel, rules.SkGID.InSet(proxyGIDs))
		}
		out.add(leaves, rules.SkGID.InSet(proxyGIDs), rules.Return())
	}
	if localStays && len(s.uids) == 0 {
		stays()
	}
}

// ownerGroups decides whose traffic is looked at at all, before DNS: a group
// that is left alone asks its resolvers itself.
func (s *sidecar) ownerGroups(w *writer, out *chainWriter) {
	if len(s.excludeUIDs) > 0 {
		out.add("an excluded user's traffic is left alone",
			rules.SkUID.InSet(set(w, "outbound_exclude_uids", rules.SkUID, s.excludeUIDs)), rules.Return())
	}
	if len(s.excludeGIDs) > 0 {
		out.add("an excluded group's traffic is left alone",
			rules.SkGID.InSet(set(w, "outbound_exclude_gids", rules.SkGID, s.excludeGIDs)), rules.Return())
	}
	if s.everyGID {
		s.destinations(out)
		return
	}
	// A jump for the included, rather than a return for the others: see
	// proxyTraffic on negated owners.
	included := w.chain("outbound")
	if len(s.includeGIDs) > 0 {
		out.add("only included groups' traffic is captured",
			rules.SkGID.InSet(set(w, "outbound_include_gids", rules.SkGID, s.includeGIDs)), rules.Goto(included.Name))
	}
	s.destinations(included)
}

// destinations decides by where a packet goes.
func (s *sidecar) destinations(out *chainWriter) {
	if !s.dns.first() {
		s.queries(out)
	}
	out.add("loopback addresses stay as they are", rules.Daddr.In(s.loopback...), rules.Return())
	if !s.dns.notDestinations() {
		s.excludedDestinations(out)
	}
	s.chosen(out)
}

func (s *sidecar) excludedDestinations(out *chainWriter) {
	if len(s.cidrs.exclude) > 0 {
		out.add("an excluded destination is left alone",
			rules.Daddr.InSet(out.prefixes("outbound_exclude", s.cidrs.exclude)), rules.Return())
	}
}

// chosen takes what is included to the outbound listener.
func (s *sidecar) chosen(out *chainWriter) {
	if s.outbound.via == viaNone {
		return
	}
	to := s.outbound.redirect()
	out.ports("outbound_include_ports", rules.TCPDport, s.outboundPorts, "an included TCP port goes to the outbound listener, whatever the destination", to)
	switch {
	case s.cidrs.all:
		out.add("all other TCP goes to the outbound listener", rules.L4Proto.Is(rules.TCP), to)
	case len(s.cidrs.include) > 0:
		out.add("TCP to an included destination goes to the outbound listener",
			rules.L4Proto.Is(rules.TCP), rules.Daddr.InSet(out.prefixes("outbound_include", s.cidrs.include)), to)
	}
}

// proxyQueriesLeft leaves the proxy's queries alone where queries come first.
func (s *sidecar) proxyQueriesLeft(out *chainWriter) {
	if s.dns.proxyQueries {
		return
	}
	for _, port := range s.dns.ports() {
		for _, owner := range s.owners(out.writer) {
			out.add("the proxy's queries are not captured", port.Is(dnsPort), owner, rules.Return())
		}
	}
}

// queries takes DNS to the proxy's listener, over UDP and TCP.
func (s *sidecar) queries(out *chainWriter) {
	if s.dns.capture == dnsNone {
		return
	}
	if s.dns.elsewhere() {
		out.queriesTo(s.dns, func(f rules.Family, _ bool) ([]rules.Node, bool) { return s.resolversOf(out.writer, f) })
		return
	}
	for _, port := range s.dns.ports() {
		out.add("DNS queries go to the proxy's DNS listener",
			append(s.resolvers(out.writer, rules.Daddr), port.Is(dnsPort), rules.RedirectTo(s.dns.port))...)
	}
}
