// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// natPrerouting takes what arrives to the inbound listener.
func (s *sidecar) natPrerouting(w *writer) {
	in := w.base("prerouting", rules.NATType, rules.Prerouting, rules.PriorityDstNAT)
	if s.reroute.any() {
		s.rerouted(in)
	}
	if s.inbound.via != viaRedirect {
		return
	}
	in.interfaces("exclude_interfaces", rules.IIfName, s.exclude, "traffic of an excluded interface is left alone")
	if len(s.tunnel) > 0 {
		in.add("the proxy's tunnel listener is reached as it is", rules.TCPDport.Within(s.tunnel...), rules.Return())
	}
	in.sources(s.sources)
	if s.inbound.all {
		in.ports("inbound_exclude_ports", rules.TCPDport, s.inbound.exclude, "an excluded inbound port is reached as it is", rules.Return())
		in.add("all other TCP that comes in goes to the inbound listener",
			rules.L4Proto.Is(rules.TCP), s.inbound.redirect())
		return
	}
	in.ports("inbound_include_ports", rules.TCPDport, s.inbound.include, "an included inbound port goes to the inbound listener", s.inbound.redirect())
}

// rerouted treats what comes from a virtual machine behind an interface as
// outbound, and leaves alone the part of it that is not captured.
func (s *sidecar) rerouted(in *chainWriter) {
	const rest = "what is not captured of a rerouted interface is left alone"
	if s.outbound.via == viaNone {
		nothing := func(*chainWriter) {}
		s.reroute.linkRules(in, s.dns, nothing, nothing)
		alone := func(from []rules.Node) { in.add(rest, append(from, rules.Return())...) }
		s.reroute.rules(in, alone, alone)
		return
	}
	included := func(c *chainWriter, from []rules.Node) {
		const why = "TCP of a rerouted interface counts as outbound"
		tcp := append(slices.Clone(from), rules.L4Proto.Is(rules.TCP))
		switch {
		case s.cidrs.all:
			c.add(why, append(tcp, s.outbound.redirect())...)
		case len(s.cidrs.include) > 0:
			c.add(why, append(tcp, rules.Daddr.InSet(c.prefixes("outbound_include", s.cidrs.include)), s.outbound.redirect())...)
		}
	}
	ignoring := func(from []rules.Node) {
		included(in, from)
		in.add(rest, append(from, rules.Return())...)
	}
	const counted = "rerouted"
	s.reroute.linkRules(in, s.dns, func(c *chainWriter) { included(c, nil) }, func(c *chainWriter) {
		c.add("a rerouted interface's traffic counts as outbound", rules.Jump(counted))
	})
	s.reroute.rules(in, ignoring, func(from []rules.Node) {
		in.add("a rerouted interface's traffic counts as outbound", append(from, rules.Goto(counted))...)
	})
	if s.reroute.honours() {
		machine := in.chain(counted)
		machine.ports("outbound_exclude_ports", rules.TCPDport, s.outbound.exclude, "an excluded outbound port is left alone", rules.Return())
		machine.excluded(ofAnyone(s.excluded), true)
		s.excludedDestinations(machine)
		s.chosen(machine)
	}
}
