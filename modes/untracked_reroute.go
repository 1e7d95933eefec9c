// SPDX-License-Identifier: Apache-2.0

package modes

import "github.com/weir-mesh/weir/rules"

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
