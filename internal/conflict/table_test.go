// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

func wanted(t *testing.T, change func(*modes.Config)) rules.State {
	t.Helper()
	c := modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}}
	if change != nil {
		change(&c)
	}
	s, _, err := modes.State(c, modes.Environment{IPv6: true, LoopbackIPv6: true, PostroutingInput: true,
		Links: []modes.Link{{Name: "eth0", Families: families}, {Name: "eth1", Families: families[:1]}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tproxy(c *modes.Config) { c.Inbound.Via = "tproxy" }

func untracked(c *modes.Config) {
	c.Inbound.Via, c.Outbound.Via, c.Conntrack, c.Proxy = "tproxy", "tproxy", "none", modes.Proxy{Mark: "0x53d/0xfff"}
}

// pod is what a namespace with eth0 and default routes holds.
func pod() Seen {
	h := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.5/24"), netip.MustParsePrefix("fd00:10:244:1::5/64")}})
	h.Routes = append(h.Routes, sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0", Via: netip.MustParseAddr("10.244.1.1")},
		sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("::/0"), Type: rules.Unicast, Out: "eth0", Via: netip.MustParseAddr("fd00:10:244:1::1")})
	return Seen{Links: h.Links, PolicyRules: h.PolicyRules, Routes: h.Routes, NoSockets: true}
}

// foreign is a table with one base chain of those rules.
func foreign(b rules.Base, age Age, nodes ...[]rules.Node) Table {
	c := &rules.Chain{Name: "c", Base: &b}
	for _, n := range nodes {
		c.Add("", n...)
	}
	return Table{Table: sim.Table{Table: &rules.Table{Name: "other", Chains: []*rules.Chain{c}}}, FamilyName: "inet", Age: age}
}

func rule(nodes ...rules.Node) []rules.Node { return nodes }

func TestTables(t *testing.T) {
	filter := func(h rules.Hook, p int32) rules.Base {
		return rules.Base{Type: rules.FilterType, Hook: h, Priority: p}
	}
	nat := func(h rules.Hook, p int32) rules.Base { return rules.Base{Type: rules.NATType, Hook: h, Priority: p} }
	drop := func(b rules.Base) rules.Base { b.Drop = true; return b }
	tcp := rules.L4Proto.Is(rules.TCP)
	for _, tt := range []struct {
		why   string
		table Table
		via   func(*modes.Config)
		want  string // kinds, with ? for may
	}{
		{"a policy drops everything that comes in before nat", foreign(drop(filter(rules.Prerouting, -200)), Older), nil, "drops"},
		{"a policy drops what is forwarded, and nothing is", foreign(drop(filter(rules.Forward, 0)), Older), nil, ""},
		{"a chain drops one port before nat", foreign(filter(rules.Prerouting, -150), Older, rule(rules.TCPDport.Is(9000), rules.Drop())), nil, "drops"},
		{"a chain drops UDP, which is not captured", foreign(filter(rules.Prerouting, -150), Older, rule(rules.L4Proto.Is(rules.UDP), rules.Drop())), nil, ""},
		{"a chain drops what conntrack calls invalid", foreign(filter(rules.Prerouting, -150), Older, rule(rules.CTStates.AnyOf(rules.CTInvalid), rules.Drop())), nil, ""},
		{"a firewall drops the captured port's own traffic", foreign(drop(filter(rules.Input, 0)), Older, rule(rules.TCPDport.Is(8080), rules.Accept())), nil, "drops"},
		{"a firewall that lets through what conntrack redirected", foreign(drop(filter(rules.Input, 0)), Older, rule(rules.TCPDport.In(8080, 15006, 15001), rules.Accept()), rule(rules.IIfName.Is("lo"), rules.Accept()), rule(rules.CTStates.AnyOf(rules.CTEstablished), rules.Accept())), nil, ""},
		{"an earlier nat chain redirects elsewhere", foreign(nat(rules.Output, -110), Older, rule(tcp, rules.RedirectTo(9999))), nil, "redirects"},
		{"a later nat chain would redirect elsewhere", foreign(nat(rules.Output, -90), Newer, rule(tcp, rules.RedirectTo(9999))), nil, ""},
		{"a nat chain of the same priority, made before ours", foreign(nat(rules.Output, -100), Older, rule(tcp, rules.RedirectTo(9999))), nil, ""},
		{"a nat chain of the same priority, made after ours", foreign(nat(rules.Output, -100), Newer, rule(tcp, rules.RedirectTo(9999))), nil, "redirects"},
		{"a nat chain of the same priority, at an unknown time", foreign(nat(rules.Output, -100), AgeUnknown, rule(tcp, rules.RedirectTo(9999))), nil, "same-priority?"},
		{"an earlier nat chain accepts: the next one is called all the same", foreign(nat(rules.Output, -110), Older, rule(tcp, rules.Accept())), nil, ""},
		{"notrack of one destination", foreign(filter(rules.Output, -300), Older, rule(rules.IPDaddr.Is(netip.MustParsePrefix("198.51.100.0/24")), rules.NoTrack{})), nil, "untracks"},
		{"notrack of what is not captured", foreign(filter(rules.Output, -300), Older, rule(rules.UDPDport.Is(4789), rules.NoTrack{})), nil, ""},
		{"a mark is changed that the rules do not go by", foreign(filter(rules.Output, -160), Older, rule(rules.MetaMark.SetMasked(0x80000, 0x80000))), tproxy, ""},
		{"the bits of the rules' own mark are cleared", foreign(rules.Base{Type: rules.RouteType, Hook: rules.Output, Priority: -160}, Older, rule(rules.MetaMark.Set(0x80000))), tproxy, "changes-marks"},
		{"the mark is cleared after the rules", foreign(filter(rules.Postrouting, 0), Older, rule(rules.MetaMark.Set(0))), nil, ""},
		{"an opaque nat statement before ours", foreign(nat(rules.Output, -110), Older, rule(tcp, rules.Opaque{Name: "immediate nat"})), nil, "redirects?"},
		{"an opaque log before ours", foreign(filter(rules.Prerouting, -200), Older, rule(rules.Opaque{Name: "log"})), nil, ""},
		{"an opaque limit, and a drop", foreign(filter(rules.Prerouting, -200), Older, rule(rules.Opaque{Name: "limit"}, rules.Drop())), nil, "drops?"},
		{"a dynamic source address of what leaves", foreign(nat(rules.Postrouting, 100), Older, rule(rules.Opaque{Name: "masq"})), nil, ""},
		{"another port is refused by an opaque reject", foreign(filter(rules.Output, 0), Older, rule(rules.UDPDport.Is(9), rules.Opaque{Name: "reject"})), nil, ""},
	} {
		seen := pod()
		seen.Tables = []Table{tt.table}
		var kinds []string
		all := Conflicts(wanted(t, tt.via), seen)
		for _, c := range all {
			k := string(c.Kind)
			if c.May {
				k += "?"
			}
			kinds = append(kinds, k)
		}
		if got := strings.Join(kinds, " "); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.why, got, tt.want)
		}
		for _, c := range all {
			t.Logf("%s: %s; remedy: %s", tt.why, c, c.Remedy)
		}
	}
}
