// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// fibHost has two links, and a routing table that delivers what has a mark here.
func fibHost() Host {
	h := NewHost(
		Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("fe80::2/64")}},
		Link{Name: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("2001:db8:1::2/64"), netip.MustParsePrefix("fe80::3/64")}})
	s := rules.State{}
	for f, all := range map[rules.Family]string{rules.IPv4: "0.0.0.0/0", rules.IPv6: "::/0"} {
		h.Routes = append(h.Routes, Route{Table: rules.MainTable, Dst: netip.MustParsePrefix(all), Type: rules.Unicast, Out: "eth0"})
		s.PolicyRules = append(s.PolicyRules, rules.PolicyRule{Family: f, Priority: 100, Mark: 0x539, Mask: 0xfff, Table: 133})
		s.Routes = append(s.Routes, rules.Route{Family: f, Table: 133, Dst: netip.MustParsePrefix(all)})
	}
	return h.With(s)
}

func TestFib(t *testing.T) {
	const missing, exists = rules.Missing, rules.Exists
	strict := rules.FibSaddr.Route().By(rules.FibIIf)
	byMark := rules.FibSaddr.Route().By(rules.FibMark | rules.FibIIf)
	for _, tt := range []struct {
		why     string
		src, in string
		mark    rules.Mark
		match   rules.Match
		dst     string // of the family's own where it is empty
	}{
		{"a source beyond the gateway is reached by where it came", "203.0.113.7", "eth0", 0, strict.Is(exists), ""},
		{"and not by another link", "203.0.113.7", "eth1", 0, strict.Is(missing), ""},
		{"so with IPv6", "2001:db8:f::1", "eth0", 0, strict.Is(exists), ""},
		{"and with its other link", "2001:db8:f::1", "eth1", 0, strict.Is(missing), ""},
		{"by any link it is reached", "203.0.113.7", "eth1", 0, rules.FibSaddr.Route().Is(exists), ""},
		{"a mark that delivers here leaves no way back", "203.0.113.7", "eth0", 0x539, byMark.Is(missing), ""},
		{"nor in IPv6", "2001:db8:f::1", "eth0", 0x539, byMark.Is(missing), ""},
		{"bits outside of the mask do not count", "203.0.113.7", "eth0", 0x80539, byMark.Is(missing), ""},
		{"another mark leaves it", "203.0.113.7", "eth0", 0x53a, byMark.Is(exists), ""},
		{"a mark counts only where it is asked for", "203.0.113.7", "eth0", 0x539, strict.Is(exists), ""},
		{"an address of this host is not routed", "198.51.100.2", "eth0", 0, rules.FibSaddr.OIfName().Not("eth1"), ""},
		{"the way back is by eth1, whichever way it came", "198.51.100.9", "eth0", 0, rules.FibSaddr.OIfName().Is("eth1"), ""},
		{"which has an index", "198.51.100.9", "eth0", 0, rules.FibSaddr.OIf().Is(3), ""},
		{"what comes by lo is right", "203.0.113.7", "lo", 0x539, byMark.Is(exists), ""},
		{"a neighbour on the link", "fe80::9", "eth1", 0, strict.Is(exists), ""},
		{"is on the link by which it came", "fe80::9", "eth0", 0, rules.FibSaddr.OIfName().Is("eth0"), ""},
		{"the destination is local", "203.0.113.7", "eth0", 0, rules.FibDaddr.Type().Is(rules.Local), ""},
		{"to the link that has it alone", "203.0.113.7", "eth1", 0, rules.FibDaddr.Type().By(rules.FibIIf).Is(rules.Unicast), ""},
		{"in IPv6 too", "2001:db8:f::1", "eth1", 0, rules.FibDaddr.Type().By(rules.FibIIf).Is(rules.Unicast), ""},
		{"and it is that link's", "2001:db8:f::1", "eth0", 0, rules.FibDaddr.Type().By(rules.FibIIf).Is(rules.Local), ""},
		{"of IPv4 the mark changes no type", "203.0.113.7", "eth0", 0x539, rules.FibSaddr.Type().By(rules.FibMark).Is(rules.Unicast), ""},
		{"of IPv6 it does", "2001:db8:f::1", "eth0", 0x539, rules.FibSaddr.Type().By(rules.FibMark).Is(rules.Local), ""},
		{"a subnet's last address is a broadcast", "203.0.113.7", "eth0", 0, rules.FibDaddr.Type().Is(rules.Broadcast), "192.0.2.255"},
		{"not on another link", "203.0.113.7", "eth1", 0, rules.FibDaddr.Type().By(rules.FibIIf).Is(rules.Unicast), "192.0.2.255"},
		{"a group is a multicast", "203.0.113.7", "eth1", 0, rules.FibDaddr.Type().By(rules.FibIIf).Is(rules.Multicast), "224.0.0.5"},
	} {
		dst := tt.dst
		if dst == "" {
			dst = map[bool]string{true: "192.0.2.2", false: "2001:db8::2"}[netip.MustParseAddr(tt.src).Is4()]
		}
		notes := on(rules.FilterType, rules.Prerouting, 0, "c", nodes(tt.match, rules.Drop()))
		p := Packet{Proto: rules.TCP, Src: netip.AddrPortFrom(netip.MustParseAddr(tt.src), 40000), Dst: netip.AddrPortFrom(netip.MustParseAddr(dst), 80), In: tt.in, Mark: tt.mark}
		f := NewEvaluator(fibHost(), Table{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{notes}}}).Evaluate(p, nil).Fate
		if f.Kind != Dropped {
			t.Errorf("%s: %s does not match: %+v", tt.why, rules.Rule{Nodes: []rules.Node{tt.match}}, f)
		}
	}
}

// TestFibBySocket: of a packet that has a socket, what that received before decides; a
// listener received nothing.
func TestFibBySocket(t *testing.T) {
	h := fibHost()
	h.Sockets = []Socket{{Proto: rules.TCP, Local: addrPort("0.0.0.0:15001"), Transparent: true}}
	notes := on(rules.FilterType, rules.Prerouting, 0, "c",
		nodes(rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: 15001}), nodes(rules.FibSaddr.Route().By(rules.FibIIf).Is(rules.Missing), rules.Drop()))
	e := NewEvaluator(h, Table{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{notes}}})
	for proto, want := range map[rules.Proto]FateKind{rules.TCP: Dropped, rules.UDP: Untouched} {
		if f := e.Evaluate(Packet{Proto: proto, Dst: addrPort("192.0.2.2:80"), Socket: &Socket{Proto: proto}}, nil).Fate; f.Kind != want {
			t.Errorf("what comes over lo, proto %d: %+v, want %s", proto, f, want)
		}
	}
}
