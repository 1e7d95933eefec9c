// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestNATOfAFamily: the kernel hooks nat in for a family with the first nat chain that sees
// it. Of chains with nat's own priority those run first that came after that one.
func TestNATOfAFamily(t *testing.T) {
	chain := func(name string, b rules.Base, nodes ...rules.Node) *rules.Chain {
		c := &rules.Chain{Name: name, Base: &b}
		c.Add("", nodes...)
		return c
	}
	out := rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}
	other := &rules.Table{Name: "other", Chains: []*rules.Chain{chain("nat", out, rules.Counter{})}}
	filter := rules.Base{Type: rules.FilterType, Hook: rules.Output, Priority: rules.PriorityDstNAT}
	own := &rules.Table{Name: "own", Chains: []*rules.Chain{
		chain("filter", filter, rules.TCPDport.Is(9), rules.Drop()),
		chain("nat", out, rules.TCPDport.Is(80), rules.RedirectTo(9)),
	}}
	host := NewHost(Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}})
	host.Sockets = []Socket{{Proto: rules.TCP, Local: netip.MustParseAddrPort("0.0.0.0:9")}}
	p := Packet{Proto: rules.TCP, Dst: netip.MustParseAddrPort("10.0.0.9:80"), Socket: &Socket{Proto: rules.TCP}}
	for _, tt := range []struct {
		why    string
		family rules.Family
		want   FateKind
	}{
		{"nat was hooked in before the filter, which runs first", rules.IPv4, Redirected},
		{"of IPv4 nat comes with our own chain, after the filter, and runs first", rules.IPv6, Dropped},
	} {
		e := NewEvaluator(host, Table{Table: other, Family: tt.family}, Table{Table: own})
		if got := e.Evaluate(p, nil).Fate.Kind; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.why, got, tt.want)
		}
	}
}
