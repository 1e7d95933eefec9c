// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// listening are sockets of a user on a port, by their addresses.
func listening(uid rules.UID, port uint16, transparent bool, addresses ...string) (out []sim.Socket) {
	for _, a := range addresses {
		out = append(out, sim.Socket{Proto: rules.TCP, Local: netip.AddrPortFrom(netip.MustParseAddr(a), port), UID: uid, Transparent: transparent})
	}
	return out
}

// plus adds an interface with those addresses.
func plus(l sim.Link, addresses ...string) func(*Seen) {
	return func(s *Seen) {
		l.Index = rules.IfIndex(len(s.Links) + 1)
		h := sim.Host{Links: append(s.Links, l), Routes: s.Routes}
		for _, a := range addresses {
			h = h.Plus(l.Name, netip.MustParsePrefix(a))
		}
		s.Links, s.Routes = h.Links, h.Routes
	}
}

// TestConflicts: each kind beside what looks like it and is harmless.
func TestConflicts(t *testing.T) {
	both := []string{"0.0.0.0", "::"}
	proxy := func(transparent bool, inbound ...string) []sim.Socket {
		return append(listening(1337, 15001, false, both...), listening(1337, 15006, transparent, inbound...)...)
	}
	policyRule := func(r sim.PolicyRule) func(*Seen) {
		return func(s *Seen) {
			r.Family = rules.IPv4
			s.PolicyRules = append([]sim.PolicyRule{r}, s.PolicyRules...)
			s.Routes = append(s.Routes, sim.Route{Table: 52, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0"})
		}
	}
	sockets := func(all []sim.Socket) func(*Seen) {
		return func(s *Seen) { s.NoSockets, s.Sockets = false, all }
	}
	marked := func(marks ...rules.Mark) func(*Seen) {
		return func(s *Seen) {
			all := append(listening(1337, 15001, true, both...), listening(1337, 15006, true, both...)...)
			for i := range all {
				all[i].Mark = marks[i/len(both)]
			}
			s.NoSockets, s.Sockets = false, all
		}
	}
	for _, tt := range []struct {
		why  string
		via  func(*modes.Config)
		seen func(*Seen)
		want string
	}{
		{"nothing", tproxy, func(*Seen) {}, ""},
		{"a policy rule takes everything first", tproxy, policyRule(sim.PolicyRule{Priority: 5270, Table: 52}), "policy-rule"},
		{"a policy rule takes another mark", tproxy, policyRule(sim.PolicyRule{Priority: 5270, Table: 52, Mark: 7, Mask: 0xff}), ""},
		{"a policy rule takes everything, and nothing is marked", nil, policyRule(sim.PolicyRule{Priority: 5270, Table: 52}), ""},
		{"a policy rule that weir does not know", tproxy, policyRule(sim.PolicyRule{Priority: 5270, Unsupported: "it says more"}), "policy-rule?"},
		{"a foreign route in weir's routing table", tproxy, func(s *Seen) {
			s.Routes = append(s.Routes, sim.Route{Table: 133, Dst: netip.MustParsePrefix("203.0.113.0/24"), Type: rules.Unicast, Out: "eth0"})
		}, "route"},
		{"our route", tproxy, func(s *Seen) {
			s.Routes = append(s.Routes, sim.Route{Table: 133, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Local, Out: "lo"})
		}, ""},
		{"weir's address on another interface", nil, func(s *Seen) {
			s.Links[1].Addresses = append(s.Links[1].Addresses, netip.MustParsePrefix("::6/128"))
		}, "address"},
		{"senders are looked up by marks, and the pod's own addresses need none", tproxy, func(s *Seen) { s.Links[1].SourceMark = true }, ""},
		{"a strict reverse path filter, and the route back is by the link", nil, func(s *Seen) { s.Links[1].ReversePath = sim.StrictPath }, ""},
		{"lo is down", nil, func(s *Seen) { s.Links[0].Down = true }, "loopback-down"},
		{"another link is down", nil, func(s *Seen) { s.Links[1].Down = true }, ""},
		{"the proxy listens", nil, sockets(proxy(false, both...)), ""},
		{"the proxy listens transparently", tproxy, sockets(proxy(true, both...)), ""},
		{"the proxy does not", tproxy, sockets(proxy(false, both...)), "not-transparent not-transparent"},
		{"without conntrack its listeners have its mark", untracked, marked(0x53d, 0x53d), ""},
		{"it is under a mask", untracked, marked(0x1053d, 0x2053d), ""},
		{"the inbound listener lacks it, and what it answers leaves the pod", untracked, marked(0x53d, 0), "unmarked unmarked"},
		{"the outbound listener lacks it, and what it answers stays in the pod", untracked, marked(0, 0x53d), ""},
		{"conntrack knows answers without a mark", tproxy, marked(0, 0), ""},
		{"it listens on IPv4 alone", nil, sockets(proxy(false, "0.0.0.0")), "one-family"},
		{"nothing listens", nil, sockets(nil), "no-listener"},
		{"the inbound listener is at a loopback address, where inbound traffic does not come", nil,
			sockets(append(listening(1337, 15001, false, both...), listening(1337, 15006, false, "127.0.0.1", "::1")...)), "no-listener no-listener"},
		{"so is a transparent one", tproxy, sockets(append(listening(1337, 15001, false, both...), listening(1337, 15006, true, "127.0.0.1", "::1")...)), "no-listener no-listener"},
		{"the outbound listener is at one, where its traffic comes", nil,
			sockets(append(listening(1337, 15001, false, "127.0.0.1", "::1"), listening(1337, 15006, false, both...)...)), ""},
		{"the inbound listener is at the pod's address", nil,
			sockets(append(listening(1337, 15001, false, both...), listening(1337, 15006, false, "10.244.1.5", "fd00:10:244:1::5")...)), ""},
		{"another user listens", nil, sockets(append(listening(1337, 15001, false, both...), listening(1000, 15006, false, both...)...)), "foreign-listener foreign-listener"},
		{"root listens, as a transparent proxy may", tproxy, sockets(append(listening(1337, 15001, false, both...), listening(0, 15006, true, both...)...)), ""},
		{"another engine captures", nil, func(s *Seen) {
			s.Engines = []Engine{{Name: "istio", Signs: []string{"table inet istio-proxy-nat"}, Rules: true}}
		}, "other-engine"},
		{"another engine left a policy rule", nil, func(s *Seen) { s.Engines = []Engine{{Name: "istio", Signs: []string{"a policy rule"}}} }, ""},
		{"programs on connect", nil, func(s *Seen) { s.Programs = []Program{{"connect4", "cil_sock4_connect"}} }, "connect-program?"},
		{"IPv6 came, and the configuration leaves it to the namespace", func(c *modes.Config) { c.IPv6 = "disabled" }, func(s *Seen) { s.IPv6 = Auto }, "new-ipv6"},
		{"IPv6 is switched off", func(c *modes.Config) { c.IPv6 = "disabled" }, func(s *Seen) { s.IPv6 = Chosen }, ""},
		{"it is unknown whether it is", func(c *modes.Config) { c.IPv6 = "disabled" }, func(s *Seen) {}, "new-ipv6?"},
		{"an interface came after the apply", nil, plus(sim.Link{Name: "net1"}, "198.18.9.2/24"), "new-interface?"},
		{"an interface came after the apply, and outbound is by TPROXY", untracked, plus(sim.Link{Name: "net1"}, "198.18.9.2/24"), "new-interface?"},
		{"an interface that a known one's family came to", nil, plus(sim.Link{Name: "eth1"}, "2001:db8:9::2/64"), "new-interface?"},
		{"an interface that the apply gave its route", nil, plus(sim.Link{Name: "eth1"}, "198.18.9.2/24"), ""},
		{"one where lo has no address of the family", nil, func(s *Seen) {
			s.Links[0].Addresses = s.Links[0].Addresses[:1]
			plus(sim.Link{Name: "eth1"}, "2001:db8:9::2/64")(s)
		}, "no-address"},
		{"one that is down", nil, plus(sim.Link{Name: "net1", Down: true}, "198.18.9.2/24"), ""},
		{"a bridge's port", nil, plus(sim.Link{Name: "net1", Port: true}, "198.18.9.2/24"), ""},
		{"one without an address", nil, plus(sim.Link{Name: "net1"}), ""},
		{"one that is excluded", func(c *modes.Config) { c.Interfaces.Exclude = []string{"net+"} }, plus(sim.Link{Name: "net1"}, "198.18.9.2/24"), ""},
		{"one beside a capture of what comes in alone", func(c *modes.Config) { c.Outbound.Via = "none" }, plus(sim.Link{Name: "net1"}, "198.18.9.2/24"), ""},
	} {
		seen := pod()
		tt.seen(&seen)
		var kinds []string
		for _, c := range Conflicts(wanted(t, tt.via), seen) {
			k := string(c.Kind)
			if c.May {
				k += "?"
			}
			kinds = append(kinds, k)
			if c.Subject == "" || c.Does == "" || c.Remedy == "" {
				t.Errorf("%s: %+v lacks words", tt.why, c)
			}
		}
		if got := strings.Join(kinds, " "); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.why, got, tt.want)
		}
	}
}

// TestSourcesThatNothingAnswers: what a strict filter drops with and without the rules is no
// conflict of theirs.
func TestSourcesThatNothingAnswers(t *testing.T) {
	seen := pod()
	second := sim.Link{Name: "eth1", Index: 9, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/24")}, ReversePath: sim.StrictPath}
	seen.Links = append(seen.Links, second)
	for _, via := range []func(*modes.Config){nil, tproxy} {
		if found := Conflicts(wanted(t, via), seen); len(found) != 0 {
			t.Errorf("found %v", found)
		}
	}
}

// TestNoPlaceBeforeZero: where routing.priority has no place to take, the remedy does not name it.
func TestNoPlaceBeforeZero(t *testing.T) {
	seen := pod()
	seen.PolicyRules = append([]sim.PolicyRule{{Family: rules.IPv4, Priority: 0, Table: 52}}, seen.PolicyRules...)
	seen.Routes = append(seen.Routes, sim.Route{Table: 52, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0"})
	c, found := Find(Conflicts(wanted(t, tproxy), seen), PolicyRuleFirst)
	if !found || strings.Contains(c.Remedy, "weir apply") {
		t.Errorf("found %v, remedy %q", found, c.Remedy)
	}
}

// TestSourceValidation: a ruleset that delivers by a mark what is for the pod's own addresses
// loses it where links look senders up by marks.
func TestSourceValidation(t *testing.T) {
	want := wanted(t, tproxy)
	divert := want.Table.Chain("tproxy_divert")
	divert.Rules = slices.DeleteFunc(divert.Rules, func(r rules.Rule) bool { return strings.Contains(r.Reason, "needs no mark") })
	seen := pod()
	if found := Conflicts(want, seen); len(found) != 0 {
		t.Errorf("without the setting: %v", found)
	}
	seen.Links[1].SourceMark = true
	found := Conflicts(want, seen)
	if len(found) != 1 || found[0].Kind != SourceValidation || found[0].Example == nil || found[0].Example.In != "eth0" {
		t.Errorf("found %v", found)
	}
}
