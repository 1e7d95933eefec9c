// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

func address(text string) rules.Bits { return rules.Bits(netip.MustParseAddr(text).AsSlice()) }

func exampleOf(ranges []rules.Range) rules.Bits {
	for _, e := range examples {
		for _, r := range ranges {
			if len(r.Lo) == len(e) && r.Lo <= e && e <= r.Hi {
				return e
			}
		}
	}
	for _, r := range ranges {
		if next, ok := (rules.Range{Lo: r.Lo, Hi: r.Lo}).After(); ok && next <= r.Hi {
			return next // the first address of a network belongs to no host
		}
	}
	return ranges[0].Lo
}

// destinations are the classes of addresses that rules test for, apart for this
// host's own, loopback, and what is reached by each of several interfaces.
func (s *Space) destinations(all map[rules.Selector][]test) dimension {
	own := test{name: "this pod"}
	loopback := test{ranges: []rules.Range{rules.RangeOf(netip.MustParsePrefix("127.0.0.0/8")), rules.RangeOf(netip.MustParsePrefix("::1/128"))}}
	places := []test{own, loopback}
	for i, l := range s.Host.Links {
		near := test{name: l.Name}
		for _, a := range l.Addresses {
			if l.Name != "lo" {
				places[0].ranges = append(places[0].ranges, rules.RangeOf(netip.PrefixFrom(a.Addr(), a.Addr().BitLen())))
				near.ranges = append(near.ranges, rules.RangeOf(a))
			} else if !a.Addr().IsLoopback() {
				places[1].ranges = append(places[1].ranges, rules.RangeOf(a))
			}
		}
		if l.Name != "lo" && i > 1 { // the first is also where everything else is
			places = append(places, near)
		}
	}
	d := dimension{name: "to"}
	for _, f := range []struct {
		selector rules.Selector
		unicast  []rules.Range
		family   string
	}{
		{rules.IPDaddr.Selector(), unicast4, "IPv4"},
		{rules.IP6Daddr.Selector(), unicast6, "IPv6"},
	} {
		typ := f.selector.Type()
		for _, c := range cut(f.unicast, slices.Concat(places, all[f.selector]), typ.FormatRange, exampleOf) {
			a := addrOf(c.value.(rules.Bits))
			switch link := s.linkOf(a); {
			case c.other:
				c.text, c.other, c.groups = "other "+f.family, false, []string{f.family, elsewhere}
			case places[0].holds(c.value.(rules.Bits)):
				c.text, c.groups = "this pod's "+c.text, []string{f.family, "this pod"}
			case places[1].holds(c.value.(rules.Bits)):
				c.groups = []string{f.family, "loopback"}
				if otherLoopback(c, all[f.selector]) {
					c.text = "other loopback"
				}
			case link != "" && !slices.ContainsFunc(all[f.selector], func(t test) bool { return t.holds(c.value.(rules.Bits)) }):
				c.text = "by " + link
				if a.Is6() {
					c.text += " (IPv6)"
				}
				fallthrough
			default:
				c.groups = []string{f.family}
			}
			d.classes = append(d.classes, c)
		}
	}
	return d
}

// elsewhere is what all destinations are called that no rule names and that are not this
// pod's.
const elsewhere = "elsewhere"

var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

// otherLoopback reports whether the class is of IPv4 loopback addresses that no rule
// tests for but as one with all others.
func otherLoopback(c class, tests []test) bool {
	v := c.value.(rules.Bits)
	return len(v) == 4 && loopback4.Contains(addrOf(v)) && !slices.ContainsFunc(tests, func(t test) bool {
		return t.holds(v) && !slices.Contains(t.ranges, rules.RangeOf(loopback4))
	})
}

// linkOf is the interface whose subnet the address is in, if it is not the first.
func (s *Space) linkOf(a netip.Addr) string {
	for i, l := range s.Host.Links {
		if i > 1 && slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(a) && p.Addr() != a }) {
			return l.Name
		}
	}
	return ""
}

// sources are the kernel's choice for what this pod sends, and addresses that rules
// test for.
func (s *Space) sources(all map[rules.Selector][]test) dimension {
	d := dimension{name: "from", classes: []class{{text: "anywhere", other: true, value: rules.Bits("")}}}
	for _, f := range []struct {
		selector rules.Selector
		unicast  []rules.Range
	}{
		{rules.IPSaddr.Selector(), unicast4},
		{rules.IP6Saddr.Selector(), unicast6},
	} {
		typ := f.selector.Type()
		for _, c := range cut(f.unicast, all[f.selector], typ.FormatRange, exampleOf) {
			if otherLoopback(c, all[f.selector]) && c.text != loopback4.String() {
				c.text = "other loopback"
			}
			if !c.other {
				d.classes = append(d.classes, c)
			}
		}
	}
	return d
}

// The unicast addresses of both families, and examples of them that no host has
// (RFC 5737, RFC 3849).
var (
	unicast4 = []rules.Range{{Lo: address("1.0.0.0"), Hi: address("223.255.255.255")}, {Lo: address("240.0.0.0"), Hi: address("255.255.255.254")}}
	unicast6 = []rules.Range{{Lo: address("::1"), Hi: address("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}}
	examples = []rules.Bits{address("203.0.113.7"), address("198.51.100.7"), address("192.0.2.7"), address("2001:db8:1::7"), address("2001:db8:2::7")}
)

func addrOf(b rules.Bits) netip.Addr {
	a, _ := netip.AddrFromSlice([]byte(b))
	return a
}
