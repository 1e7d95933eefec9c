// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// state writes the ruleset. The order of its rules is that of istio's ambient
// mode: the same packets are to meet the same fate.
func (p *ambientPod) state() rules.State {
	w := newWriter(p.table, p.families)
	if p.dns.zoned() {
		p.rawPrerouting(w)
	}
	p.manglePrerouting(w)
	if p.inbound.via != viaNone || p.reroute.any() {
		p.natPrerouting(w)
	}
	if p.dns.zoned() {
		p.rawOutput(w)
	}
	p.mangleOutput(w)
	p.natOutput(w)
	if p.capturesOutbound() {
		w.guardLoopback()
	}
	state := rules.State{Table: w.table}
	if p.capturesOutbound() {
		state.Routes = p.bound
	}
	p.routing.deliver(&state)
	return state
}

// capturesOutbound reports whether anything that this pod sends goes to the proxy.
func (p *ambientPod) capturesOutbound() bool {
	return p.outbound.via != viaNone || p.dns.capture != dnsNone
}

func (p *ambientPod) ours() rules.Match    { return rules.MetaMark.Masked(p.mark, p.markMask) }
func (p *ambientPod) notOurs() rules.Match { return not(p.ours()) }

func not(m rules.Match) rules.Match {
	m.Negated = !m.Negated
	return m
}

// ownAddresses are what the application calls to reach itself.
var ownAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}

// manglePrerouting and mangleOutput bring the application's answers back to a
// proxy that speaks with the client's own address.
func (p *ambientPod) manglePrerouting(w *writer) {
	in := w.base("mangle_prerouting", rules.FilterType, rules.Prerouting, rules.PriorityMangle)
	in.add("a connection that the proxy opened to the application is remembered", p.ours(), rules.CTMark.SetMasked(p.routing.mark, p.routing.mask))
}

func (p *ambientPod) mangleOutput(w *writer) {
	out := w.base("mangle_output", rules.RouteType, rules.Output, rules.PriorityMangle)
	if p.dns.zoned() {
		p.takenForAnswers(w, out)
	}
	out.add("the application's answer goes back through the proxy",
		rules.CTMark.Masked(p.routing.mark, p.routing.mask), rules.MetaMark.SetMasked(p.routing.mark, p.routing.mask))
}

// natPrerouting takes what arrives to the inbound listener.
func (p *ambientPod) natPrerouting(w *writer) {
	in := w.base("prerouting", rules.NATType, rules.Prerouting, rules.PriorityDstNAT)
	p.rerouted(w, in)
	if p.inbound.via == viaNone {
		return
	}
	p.excludedInterfaces(in, rules.IIfName)
	if len(p.probes) > 0 {
		in.add("the kubelet's probes reach the application", rules.L4Proto.Is(rules.TCP), rules.Saddr.In(p.probes...), rules.Return())
	}
	if p.exclude.sources != nil {
		in.add(sourceAlone, rules.Saddr.InSet(w.everyPrefixSet(sourceSet, p.exclude.sources)), rules.Return())
	}
	if p.exclude.inboundPorts != nil {
		in.add("an excluded inbound port is reached as it is",
			rules.TCPDport.InSet(portSet(w, "inbound_exclude_ports", p.exclude.inboundPorts)), rules.Return())
	}
	in.add("all other TCP that comes in goes to the inbound listener",
		rules.Daddr.NotIn(ownAddresses...), tcpBut(p.tunnel), p.notOurs(), p.inbound.redirect())
}

// rerouted treats what comes from a virtual machine behind an interface as
// outbound, and leaves alone the part of it that is not captured.
func (p *ambientPod) rerouted(w *writer, in *chainWriter) {
	const all = "all other TCP goes to the outbound listener"
	ignoring := func(from []rules.Node) {
		if p.outbound.via != viaNone {
			in.add(all, append(slices.Clone(from), rules.L4Proto.Is(rules.TCP), p.outbound.redirect())...)
		}
		in.add("what is not captured of a rerouted interface is left alone", append(from, rules.Return())...)
	}
	const counted = "rerouted"
	p.reroute.linkRules(in, p.dns, func(c *chainWriter) {
		if p.outbound.via != viaNone {
			c.add(all, rules.L4Proto.Is(rules.TCP), p.outbound.redirect())
		}
	}, func(c *chainWriter) {
		c.add("a rerouted interface's traffic counts as outbound", rules.Jump(counted))
	})
	p.reroute.rules(in, ignoring, func(from []rules.Node) {
		in.add("a rerouted interface's traffic counts as outbound", append(from, rules.Goto(counted))...)
	})
	if !p.reroute.honours() {
		return
	}
	machine := w.chain(counted)
	p.excludedPorts(machine, rules.TCPDport)
	machine.excluded(ofAnyone(p.exclude.together), true)
	p.excludedDestinations(machine)
	if p.outbound.via != viaNone {
		machine.add(all, rules.L4Proto.Is(rules.TCP), p.outbound.redirect())
	}
}

// natOutput takes what the application opens to the outbound listener.
func (p *ambientPod) natOutput(w *writer) {
	out := w.base("output", rules.NATType, rules.Output, rules.PriorityDstNAT)
	p.excludedInterfaces(out, rules.OIfName)
	if p.capturesOutbound() && !p.linkLocal {
		out.leaveLinkLocal(rules.Return())
	}
	if p.dns.first() {
		p.queries(out)
	}
	if p.dns.notDestinations() {
		p.excludedDestinations(out)
	}
	p.excludedPorts(out, rules.TCPDport)
	out.excluded(p.exclude.together, true)
	if len(p.probes) > 0 {
		out.add("answers to the kubelet's probes stay as they are", rules.L4Proto.Is(rules.TCP), rules.Daddr.In(p.probes...), rules.Return())
	}
	p.excludedOwners(out)
	if p.dns.captures(false) && !p.dns.first() {
		p.excludedPorts(out, rules.UDPDport)
		out.excluded(p.exclude.together, false)
	}
	if !p.dns.first() {
		p.queries(out)
	}
	out.add("the application's answer goes back through the proxy",
		rules.L4Proto.Is(rules.TCP), rules.MetaMark.Masked(p.routing.mark, p.routing.mask), rules.Return())
	if !p.ownPod {
		out.add("the application's calls to its own pod stay as they are",
			rules.OIfName.Is("lo"), rules.Daddr.NotIn(ownAddresses...), rules.Return())
	}
	if !p.dns.notDestinations() {
		p.excludedDestinations(out)
	}
	if p.outbound.via != viaNone {
		out.add("all other TCP goes to the outbound listener",
			rules.L4Proto.Is(rules.TCP), rules.Daddr.NotIn(ownAddresses...), p.notOurs(), p.outbound.redirect())
	}
}

// queries takes DNS to the proxy's listener.
func (p *ambientPod) queries(out *chainWriter) {
	if p.dns.capture != dnsNone && p.dns.elsewhere() {
		out.queriesTo(p.dns, func(f rules.Family, tcp bool) ([]rules.Node, bool) {
			if tcp {
				return []rules.Node{daddrKeys[f].NotIn(ofFamily(ownAddresses, f)...), p.notOurs()}, true
			}
			return []rules.Node{rules.OIfName.Not("lo"), p.notOurs()}, true
		})
		return
	}
	const why = "DNS queries go to the proxy's DNS listener"
	if p.dns.captures(false) {
		out.add(why, rules.OIfName.Not("lo"), p.notOurs(), rules.UDPDport.Is(dnsPort), rules.RedirectTo(p.dns.port))
	}
	if p.dns.captures(true) {
		out.add(why, rules.Daddr.NotIn(ownAddresses...), p.notOurs(), rules.TCPDport.Is(dnsPort), rules.RedirectTo(p.dns.port))
	}
}

func (p *ambientPod) excludedInterfaces(c *chainWriter, key rules.Key[rules.IfName]) {
	if p.exclude.interfaces == nil {
		return
	}
	for _, m := range c.everyInterfaceSet("exclude_interfaces", key, p.exclude.interfaces) {
		c.add("traffic of an excluded interface is left alone", append(m, rules.Return())...)
	}
}

func (p *ambientPod) excludedPorts(c *chainWriter, key rules.Key[rules.Port]) {
	if p.exclude.outboundPorts != nil {
		c.add("an excluded outbound port is left alone", key.InSet(portSet(c.writer, "outbound_exclude_ports", p.exclude.outboundPorts)), rules.Return())
	}
}

func (p *ambientPod) excludedOwners(c *chainWriter) {
	if p.exclude.uids != nil {
		c.add("an excluded user's traffic is left alone",
			rules.SkUID.InSet(set(c.writer, "outbound_exclude_uids", rules.SkUID, p.exclude.uids)), rules.Return())
	}
	if p.exclude.gids != nil {
		c.add("an excluded group's traffic is left alone",
			rules.SkGID.InSet(set(c.writer, "outbound_exclude_gids", rules.SkGID, p.exclude.gids)), rules.Return())
	}
}

func (p *ambientPod) excludedDestinations(c *chainWriter) {
	if p.exclude.cidrs != nil {
		c.add("an excluded destination is left alone", rules.Daddr.InSet(c.everyPrefixSet("outbound_exclude", p.exclude.cidrs)), rules.Return())
	}
}
