// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weir-mesh/weir/rules"
)

const (
	tableName    = "weir"
	proxyUID     = rules.UID(1337)
	outboundPort = rules.Port(15001)
	inboundPort  = rules.Port(15006)
	divertMark   = rules.Mark(0x539)
	markMask     = rules.Mark(0xfff)
	divertTable  = 133
	rulePriority = 32765
)

var bothFamilies = []rules.Family{rules.IPv4, rules.IPv6}

// capture is what the tests' states are made of: a pod whose connections go to
// a proxy. The zero capture takes every connection by REDIRECT.
type capture struct {
	include  []netip.Prefix // what is captured; none is everything
	exclude  []netip.Prefix // what is left alone
	ports    []rules.Port   // what is left alone
	proxies  []rules.UID    // besides proxyUID
	verdicts []rules.Port   // captured by a verdict map, and nothing else is
	priority int32          // of the output chain, dstnat where it is 0
	apart    bool           // the output chain has a name of its own
	live     bool           // a live set of what was probed
	tproxy   bool           // inbound by TPROXY, with marks and routing
	table    uint32         // of the routing, divertTable where it is 0
	passes   []netip.Prefix // addresses on lo besides ::6
	rules    int            // that many more rules
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

// manyPrefixes are n hosts, none next to another.
func manyPrefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>23), byte(i >> 15), byte(i >> 7), byte(i << 1)}), 32)
	}
	return out
}

func (c capture) state() rules.State {
	t := &rules.Table{Name: tableName}
	s := rules.State{Table: t}
	c.output(t)
	if c.live {
		t.Sets = append(t.Sets, &rules.Set{Name: "seen", Key: []rules.DataType{rules.IPDaddr.Type()}, Expires: true, Timeout: time.Hour, Live: true})
	}
	if c.tproxy {
		c.divert(t)
		table := cmp.Or(c.table, divertTable)
		for _, f := range bothFamilies {
			s.PolicyRules = append(s.PolicyRules, rules.PolicyRule{Family: f, Priority: rulePriority, Mark: divertMark, Mask: markMask, Table: table})
		}
		s.Routes = []rules.Route{
			{Family: rules.IPv4, Table: table, Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
			{Family: rules.IPv6, Table: table, Dst: netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
		}
		s.Addresses = append(prefixes("::6/128"), c.passes...)
	} else {
		in := &rules.Chain{Name: "prerouting", Base: &rules.Base{Type: rules.NATType, Hook: rules.Prerouting, Priority: rules.PriorityDstNAT}}
		in.Add("ssh stays open", rules.TCPDport.Is(22), rules.Return())
		in.Add("what comes in goes to the inbound listener", rules.IIfName.Not("lo"), rules.L4Proto.Is(rules.TCP), rules.Counter{}, rules.RedirectTo(inboundPort))
		t.Chains = append(t.Chains, in)
	}
	return s
}

func (c capture) output(t *rules.Table) {
	uids := []rules.Range{rules.RangeOf(proxyUID)}
	for _, u := range c.proxies {
		uids = append(uids, rules.RangeOf(u))
	}
	ports := []rules.Range{rules.RangeOf(rules.Port(22))}
	for _, p := range c.ports {
		ports = append(ports, rules.RangeOf(p))
	}
	proxies := rules.SkUID.AddSet(t, "proxies", uids...)
	left := rules.TCPDport.AddSet(t, "left_ports", ports...)
	excluded := t.AddPrefixSets("excluded", slices.Concat(c.exclude, prefixes("192.0.2.0/24", "2001:db8:bad::/48"))...)

	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	if c.priority != 0 {
		out.Base.Priority = c.priority
	}
	if c.apart {
		out.Name = "output_apart"
	}
	add := func(reason string, nodes ...rules.Node) {
		for _, r := range t.Expand(rules.Rule{Reason: reason, Nodes: nodes}, bothFamilies...) {
			out.Add(r.Reason, r.Nodes...)
		}
	}
	add("the proxy's own traffic leaves as it is", rules.SkUID.InSet(proxies), rules.Return())
	add("what stays in the pod is left alone", rules.OIfName.Is("lo"), rules.Return())
	for i := range c.rules {
		add(fmt.Sprintf("user %d has a way of its own", 100000+i), rules.SkUID.Is(rules.UID(100000+i)), rules.Return())
	}
	add("excluded destinations are left alone", rules.Daddr.InSet(excluded), rules.Return())
	add("excluded ports are left alone", rules.TCPDport.InSet(left), rules.Return())
	switch {
	case len(c.verdicts) > 0:
		byPort := &rules.Set{Name: "by_port", Key: []rules.DataType{rules.TCPDport.Type()}, Verdicts: true}
		for _, p := range c.verdicts {
			byPort.Elements = append(byPort.Elements, rules.Element{Key: []rules.Range{rules.RangeOf(p)}, Verdict: rules.Jump("to_proxy")})
		}
		t.Sets = append(t.Sets, byPort)
		add("the port decides", rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Map: byPort.Name})
	case len(c.include) > 0:
		included := t.AddPrefixSets("included", c.include...)
		add("included destinations go to the proxy", rules.Daddr.InSet(included), rules.L4Proto.Is(rules.TCP), rules.Jump("to_proxy"))
	default:
		add("everything else goes to the proxy", rules.L4Proto.Is(rules.TCP), rules.Jump("to_proxy"))
	}
	to := &rules.Chain{Name: "to_proxy"}
	to.Add("to the outbound listener", rules.L4Proto.Is(rules.TCP), rules.Counter{}, rules.RedirectTo(outboundPort))
	t.Chains = append(t.Chains, out, to)
}

func (c capture) divert(t *rules.Table) {
	in := &rules.Chain{Name: "divert", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: rules.PriorityMangle}}
	in.Add("ssh stays open", rules.TCPDport.Is(22), rules.Return())
	in.Add("the proxy's replies to itself", rules.MetaMark.Masked(divertMark, markMask), rules.Return())
	in.Add("a connection that the proxy has", rules.L4Proto.Is(rules.TCP), rules.SocketTransparent.Is(true), rules.MetaMark.SetMasked(divertMark, markMask), rules.Accept())
	in.Add("a new connection goes to the inbound listener", rules.IIfName.Not("lo"), rules.L4Proto.Is(rules.TCP), rules.MetaMark.SetMasked(divertMark, markMask),
		rules.TProxy{Port: inboundPort}, rules.Accept())
	out := &rules.Chain{Name: "restore", Base: &rules.Base{Type: rules.RouteType, Hook: rules.Output, Priority: rules.PriorityMangle}}
	out.Add("a reply carries its connection's mark", rules.CTMark.Masked(divertMark, markMask), rules.MetaMark.SetFrom(rules.CTMark))
	t.Chains = append(t.Chains, in, out)
}

// everything holds something of every kind.
func everything() rules.State {
	s := capture{
		exclude: prefixes("10.0.0.0/8", "10.255.0.0/16", "198.51.100.7/32", "fd00:1::/64"),
		ports:   []rules.Port{3306, 5432},
		proxies: []rules.UID{1500},
		live:    true,
		tproxy:  true,
	}.state()
	t := s.Table
	byPort := &rules.Set{Name: "by_port", Key: []rules.DataType{rules.TCPDport.Type()}, Verdicts: true, Elements: []rules.Element{
		{Key: []rules.Range{rules.RangeOf(rules.Port(9090))}, Verdict: rules.Jump("counted")},
		{Key: []rules.Range{rules.RangeOf(rules.Port(9091))}, Verdict: rules.Return()},
	}}
	t.Sets = append(t.Sets, byPort)
	local := &rules.Chain{Name: "local", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Output, Priority: rules.PriorityFilter}}
	local.Add("ipv4 from the bridge is counted", rules.NFProto.Is(rules.IPv4), rules.OIfName.Is("br0"), rules.Counter{}, rules.Return())
	local.Add("any tunnel", rules.OIfName.Is("tun*"), rules.Return())
	local.Add("one host", rules.IPDaddr.Is(netip.MustParsePrefix("203.0.113.9/32")), rules.Return())
	local.Add("a network", rules.IPDaddr.Not(netip.MustParsePrefix("172.16.0.0/12")), rules.TCPDport.Within(rules.RangeBetween[rules.Port](8000, 8100)), rules.Return())
	local.Add("a port decides", rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Map: "by_port"})
	local.Add("some ports", rules.TCPDport.In(1, 2, 3), rules.Accept())
	counted := &rules.Chain{Name: "counted"}
	counted.Add("what the map sends here is counted", rules.Counter{})
	t.Chains = append(t.Chains, local, counted)
	return s
}

// contenders are states that differ in rules, in elements alone, in routing and
// in addresses.
func contenders() []rules.State {
	var all []rules.State
	for i := range 4 {
		port, table := rules.Port(1000+i), uint32(200+i)
		all = append(all,
			capture{ports: []rules.Port{port}}.state(),
			capture{ports: []rules.Port{port}, tproxy: true, table: table}.state(),
			capture{verdicts: []rules.Port{port}, tproxy: true, table: table, passes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 32)}}.state(),
			capture{include: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(10 + i), 0, 0, 0}), 8)}, live: true}.state(),
		)
	}
	return all
}
