// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// udpOutput loops the datagrams that are captured.
func (s *sidecar) udpOutput(w *writer) {
	out := w.chain("udp_" + output)
	if len(s.resolverAddresses) > 0 {
		out.add("an answer of the proxy's DNS listener", rules.UDPSport.Is(s.dns.port), rules.Jump("dns_answers"))
	}
	out.interfaces("exclude_interfaces", rules.OIfName, s.exclude, "traffic of an excluded interface is left alone")
	for _, owner := range s.owners(w) {
		out.add("the proxy's own traffic is not captured", owner, rules.Return())
	}
	out.ports("outbound_exclude_ports", rules.UDPDport, s.outbound.exclude, "an excluded outbound port is left alone, DNS too", rules.Return())
	if s.dns.capture != dnsNone {
		out.add("queries", rules.UDPDport.Is(dnsPort), rules.Jump("dns_udp"))
	}
	out.add("what this pod sends to itself stays here", rules.OIf.Is(loopbackIndex), rules.Return())
	if len(s.cidrs.exclude) > 0 && len(s.udpOut.include) > 0 {
		out.add("an excluded destination is left alone", rules.Daddr.InSet(out.prefixes("outbound_exclude", s.cidrs.exclude)), rules.Return())
	}
	loop := []rules.Node{rules.NoTrack{}, s.routing.setMark()}
	out.listed("udp_outbound_ports", rules.UDPDport, s.udpOut.include, "a captured port is looped, to the outbound listener", loop...)
	out.listed("udp_inbound_ports", rules.UDPSport, s.udpIn.include, "the application answers a client whose address the proxy uses", loop...)
}

// udpPrerouting hands datagrams to the listeners. What nothing takes is dropped.
func (s *sidecar) udpPrerouting(w *writer) {
	in := w.chain("udp_" + prerouting)
	in.add("over lo comes what is captured of what this pod sends", rules.IIf.Is(loopbackIndex), rules.Goto("udp_from_lo"))
	in.interfaces("exclude_interfaces", rules.IIfName, s.exclude, "traffic of an excluded interface is left alone")
	in.listed("udp_inbound_ports", rules.UDPDport, s.udpIn.include, "a captured port goes to the inbound listener", rules.Goto("udp_inbound"))
	lo := w.chain("udp_from_lo")
	lo.add("what is not captured stays as it is", not(s.routing.marked()), rules.Return())
	if s.dns.capture != dnsNone {
		lo.add("queries go to the proxy's DNS listener", rules.UDPDport.Is(dnsPort), rules.TProxy{Port: s.dns.port}, rules.Accept())
	}
	if len(s.udpOut.include)+len(s.udpIn.include) > 0 {
		lo.add("the flow's socket takes it, else the outbound listener", rules.L4Proto.Is(rules.UDP), rules.TProxy{Port: s.udpOut.first()}, rules.Accept())
	}
	lo.add("nothing listens for it: dropped", rules.Drop())
	if len(s.udpIn.include) == 0 {
		return
	}
	deliver := w.chain("udp_inbound")
	deliver.add("the flow's socket takes it, else the inbound listener", rules.L4Proto.Is(rules.UDP), rules.NoTrack{}, rules.TProxy{Port: s.udpIn.first()}, rules.Accept())
	deliver.add("nothing listens for it: dropped, else it would reach the application past the proxy", rules.FibDaddr.Type().Is(rules.Local), rules.Drop())
}

// listed is ports with several statements.
func (c *chainWriter) listed(name string, key rules.Key[rules.Port], ports []rules.Range, reason string, then ...rules.Node) {
	if len(ports) > 0 {
		c.add(reason, append([]rules.Node{key.InSet(portSet(c.writer, name, ports))}, then...)...)
	}
}

// stateless rewrites queries to known resolvers, so that a listener which is neither
// transparent nor told of their addresses gets and answers them: each resolver has a
// loopback address of its own, which the answer comes from. What it would take to find
// the resolver again is in no table.
func (s *sidecar) stateless(w *writer) {
	if s.dns.capture == dnsNone {
		return
	}
	for _, p := range []struct {
		name         string
		sport, dport rules.Key[rules.Port]
	}{{"dns_udp", rules.UDPSport, rules.UDPDport}, {"dns_tcp", rules.TCPSport, rules.TCPDport}} {
		queries := w.chain(p.name)
		for i, r := range s.dns.servers {
			if f := rules.AddressFamily(r.Addr()); s.captured(f) {
				queries.rewrite("a query to a known resolver goes to the proxy's DNS listener", daddrKeys[f], r, p.dport, dnsPort, s.resolverAddresses[i], s.dns.port)
			}
		}
		if s.dns.capture == dnsAll {
			queries.add("a query to any other resolver is looped, to the proxy's DNS listener", rules.NoTrack{}, s.routing.setMark(), rules.Accept())
		}
	}
	if len(s.resolverAddresses) == 0 {
		return
	}
	answers := w.chain("dns_answers")
	for _, key := range []rules.Key[rules.Port]{rules.UDPSport, rules.TCPSport} {
		for i, r := range s.dns.servers {
			if f := rules.AddressFamily(r.Addr()); s.captured(f) {
				answers.rewrite("an answer comes from the resolver that was asked", saddrKeys[f], s.resolverAddresses[i], key, s.dns.port, r, dnsPort)
			}
		}
	}
}

var saddrKeys = map[rules.Family]rules.Key[netip.Prefix]{rules.IPv4: rules.IPSaddr, rules.IPv6: rules.IP6Saddr}

// rewrite gives packets of an address and port others.
func (c *chainWriter) rewrite(why string, address rules.Key[netip.Prefix], from netip.Prefix, key rules.Key[rules.Port], port rules.Port, to netip.Prefix, toPort rules.Port) {
	nodes := []rules.Node{address.Is(from), key.Is(port)}
	if from.Addr() == plainAddress(rules.AddressFamily(from.Addr())) { // from which those who ask the listener itself are answered
		for _, lo := range loopbackNetworks {
			if lo.Contains(from.Addr()) {
				nodes = append(nodes, daddrKeys[rules.AddressFamily(from.Addr())].Not(lo))
			}
		}
	}
	c.add(why, append(nodes, rules.NoTrack{}, key.Set(toPort), address.Set(to), rules.Accept())...)
}

// plainAddress is where a listener is that is for its own pod alone.
func plainAddress(f rules.Family) netip.Addr {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

func (s *sidecar) captured(f rules.Family) bool { return f == rules.IPv4 || s.ipv6() }

// queriesOverTCP takes them to a chain.
func (s *sidecar) queriesOverTCP(out *chainWriter, then rules.Node) {
	if s.dns.capture != dnsNone {
		out.add("queries over TCP", rules.TCPDport.Is(dnsPort), then)
	}
}

// ownQueries looks at DNS over lo: what a plain listener answers, and queries to a
// resolver in the pod.
func (s *sidecar) ownQueries(lo *chainWriter) {
	if s.dns.capture == dnsNone {
		return
	}
	if !s.excludesInterface("lo") {
		s.answersOverTCP(lo)
	}
	for _, owner := range s.owners(lo.writer) {
		lo.add("the proxy's queries to a resolver in its pod stay as they are", rules.TCPDport.Is(dnsPort), owner, rules.Return())
	}
	s.queriesOverTCP(lo, rules.Jump("dns_tcp"))
}

// answersOverTCP has a plain listener's answers come from the resolver that was asked.
func (s *sidecar) answersOverTCP(c *chainWriter) {
	if len(s.resolverAddresses) > 0 {
		c.add("an answer of the proxy's DNS listener", rules.TCPSport.Is(s.dns.port), rules.Jump("dns_answers"))
	}
}

// maxResolvers is how many have a loopback address of their own.
const maxResolvers = 250

// plainAddresses are the loopback addresses that stand for resolvers: the first one of
// each family that is no loopback address itself has 127.0.0.1 or ::1, where a listener
// for this pod alone is, and the others one of their own.
func plainAddresses(resolvers []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	given := map[rules.Family]bool{}
	for i, r := range resolvers {
		f := rules.AddressFamily(r.Addr())
		a := plainAddress(f)
		switch plain := !r.Addr().IsLoopback() && !given[f]; {
		case plain:
			given[f] = true
		case f == rules.IPv4:
			a = netip.AddrFrom4([4]byte{127, 0, 53, byte(i + 1)})
		default:
			a = netip.AddrFrom16([16]byte{13: 0x53, 15: byte(i + 1)})
		}
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}
