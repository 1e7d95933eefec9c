// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"net"
	"net/netip"
	"testing"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

func TestALinkGoesWithItsPeersNamespace(t *testing.T) {
	outer, inner := ForTest(t), ForTest(t)
	Must(t, Veth(outer, "out", inner, "in"))
	has := func(name string) bool {
		return outer.Do(func() error { _, err := net.InterfaceByName(name); return err }) == nil
	}
	if !has("out") {
		t.Fatal("no link")
	}
	Must(t, inner.Close())
	Eventually(t, "the link goes", func() bool { return !has("out") })
}

func TestBothEndsInOneNamespace(t *testing.T) {
	ns := ForTest(t)
	Must(t, Veth(ns, "one", ns, "two"), ns.Up("one"), ns.Up("two"))
}

func TestRoutesAndRules(t *testing.T) {
	a, _ := joined(t)
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for _, r := range []Route{
		{Dst: prefix("0.0.0.0/0"), Via: addr("192.0.2.2")},
		{Dst: prefix("10.1.2.3/8"), Link: "a"},
		{Dst: prefix("::/0"), Via: addr("2001:db8::2"), Link: "a", Table: 1000},
		{Dst: prefix("0.0.0.0/0"), Local: true, Table: 1000},
		{Dst: prefix("::/0"), Local: true, Table: 1001},
	} {
		Must(t, a.AddRoute(r))
		if err := a.AddRoute(r); err == nil {
			t.Errorf("route %v a second time: no error", r)
		}
	}
	for _, r := range []Rule{
		{IIf: "a", Table: 1000, Priority: 5},
		{IPv6: true, Mark: 1, Mask: 0xff, Table: 1001, Priority: 6},
	} {
		Must(t, a.AddRule(r))
	}
	var rules []rtnetlink.RuleMessage
	Must(t, a.routing(func(c *rtnetlink.Conn) (err error) { rules, err = c.Rule.List(); return err }))
	byPriority := make(map[uint32]rtnetlink.RuleMessage)
	for _, r := range rules {
		if r.Attributes.Priority != nil {
			byPriority[*r.Attributes.Priority] = r
		}
	}
	if r := byPriority[5]; r.Family != unix.AF_INET || r.Attributes == nil || r.Attributes.IIFName == nil || *r.Attributes.IIFName != "a" {
		t.Errorf("the rule for a link: %+v", r)
	}
	if r := byPriority[6]; r.Family != unix.AF_INET6 || r.Attributes == nil || r.Attributes.FwMask == nil || *r.Attributes.FwMask != 0xff {
		t.Errorf("the rule for a mark: %+v", r)
	}
}

func TestMistakesAreErrors(t *testing.T) {
	a, b := joined(t)
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for why, err := range map[string]error{
		"a name that is taken":       Veth(a, "a", b, "c"),
		"a name that is too long":    Veth(a, "longer-than-fifteen", b, "c"),
		"no such link":               a.Up("x"),
		"an address for no link":     a.AddAddress("x", prefix("192.0.2.9/24")),
		"no address":                 a.AddAddress("a", netip.Prefix{}),
		"an address twice":           a.AddAddress("a", prefix("192.0.2.1/24")),
		"no destination":             a.AddRoute(Route{Link: "a"}),
		"a next hop out of reach":    a.AddRoute(Route{Dst: prefix("10.0.0.0/8"), Via: addr("203.0.113.1")}),
		"a next hop of another kind": a.AddRoute(Route{Dst: prefix("10.0.0.0/8"), Via: addr("2001:db8::2")}),
		"a route nowhere":            a.AddRoute(Route{Dst: prefix("10.0.0.0/8")}),
		"a rule that leads nowhere":  a.AddRule(Rule{IIf: "a", Priority: 1}),
		"a rule without a priority":  a.AddRule(Rule{IIf: "a", Table: 100}),
		"catching all a second time": firstOf(b.CatchAll(7000, "b"), func() error { return b.CatchAll(7000, "b") }),
	} {
		if err == nil {
			t.Errorf("%s: no error", why)
		} else {
			t.Logf("%s: %v", why, err)
		}
	}
}

// firstOf is the error of a second step whose first one must not fail.
func firstOf(first error, second func() error) error {
	if first != nil {
		return nil
	}
	return second()
}
