// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestBoundToAnInterface: what a socket sends that is bound to an interface leaves by it,
// and what is redirected to a loopback address does too, unless a rule drops it there.
func TestBoundToAnInterface(t *testing.T) {
	redirects := on(rules.NATType, rules.Output, rules.PriorityDstNAT, "output",
		nodes(rules.IP6Daddr.Is(netip.MustParsePrefix("fe80::/10")), rules.Return()), nodes(rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001)))
	guard := on(rules.NATType, rules.Postrouting, rules.PrioritySrcNAT-1, "guard",
		nodes(rules.OIfName.Not("lo"), rules.IPDaddr.Is(netip.MustParsePrefix("127.0.0.1/32")), rules.Drop()), nodes(rules.OIfName.Not("lo"), rules.IP6Daddr.Is(netip.MustParsePrefix("::1/128")), rules.Drop()))
	h := fibHost()
	for _, tt := range []struct {
		why, dst, device string
		guarded          bool
		kind             FateKind
		out              string
	}{
		{"a socket of no interface is redirected", "203.0.113.7:80", "", true, Redirected, ""},
		{"one of eth1 leaves by it", "203.0.113.7:53", "eth1", true, Dropped, ""},
		{"and without the guard with a loopback address", "203.0.113.7:80", "eth1", false, Redirected, "eth1"},
		{"so with IPv6", "[2001:db8:f::1]:80", "eth0", false, Redirected, "eth0"},
		{"which the guard drops", "[2001:db8:f::1]:80", "eth0", true, Dropped, ""},
		{"a link-local address is on its link", "[fe80::9]:80", "eth1", true, Untouched, "eth1"},
		{"an address of the interface's own is reached over lo", "192.0.2.2:80", "eth0", false, Redirected, "eth0"},
	} {
		chains := []*rules.Chain{redirects}
		if tt.guarded {
			chains = append(chains, guard)
		}
		p := Packet{Proto: rules.TCP, Dst: addrPort(tt.dst), Device: tt.device, Socket: &Socket{Proto: rules.TCP}}
		f := NewEvaluator(h, Table{Table: &rules.Table{Name: "t", Chains: chains}}).Evaluate(p, nil).Fate
		if f.Kind != tt.kind || f.Out != tt.out {
			t.Errorf("%s: %+v", tt.why, f)
		}
	}
}
