// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// kubeProxyLike is a table as kube-proxy's nftables mode writes: many chains,
// sets, maps and verdict maps.
const kubeProxyLike = `
table ip kube-proxy {
	comment "rules for kube-proxy"
	set cluster-ips { type ipv4_addr; comment "Active ClusterIPs"; elements = { 10.96.0.1, 10.96.0.10 } }
	set nodeport-ips { type ipv4_addr; comment "IPs that accept NodePort traffic"; elements = { 192.168.1.10 } }
	map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; comment "vmap to drop or reject packets to services with no endpoints"; elements = { 10.96.7.7 . tcp . 80 : goto reject-chain } }
	map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.1 . tcp . 443 : goto service-ULMVA6XW-default/kubernetes/tcp/https } }
	map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
	chain service-ULMVA6XW-default/kubernetes/tcp/https {
		ip daddr 10.96.0.1 tcp dport 443 ip saddr != 10.0.0.0/8 jump mark-for-masquerade
		numgen random mod 1 vmap { 0 : goto endpoint-7D5JRT6G-default/kubernetes/tcp/https__192.168.1.10/6443 }
	}
	chain endpoint-7D5JRT6G-default/kubernetes/tcp/https__192.168.1.10/6443 {
		ip saddr 192.168.1.10 jump mark-for-masquerade
		meta l4proto tcp dnat to 192.168.1.10:6443
	}
	chain mark-for-masquerade { meta mark set meta mark | 0x4000
	}
	chain masquerading {
		meta mark & 0x4000 == 0 return
		meta mark set meta mark ^ 0x4000
		masquerade fully-random
	}
	chain reject-chain { reject
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips fib daddr type local meta l4proto tcp counter
	}
	chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}
	chain filter-input { type filter hook input priority -110; policy accept; ct state new jump service-endpoints-check
	}
	chain filter-output { type filter hook output priority -110; policy accept; ct state new jump service-endpoints-check
	}
	chain nat-prerouting { type nat hook prerouting priority -100; policy accept; jump services
	}
	chain nat-output { type nat hook output priority -100; policy accept; jump services
	}
	chain nat-postrouting { type nat hook postrouting priority 100; policy accept; jump masquerading
	}
}
`

// iptablesLike is what iptables-nft is given, for both families.
var iptablesLike = []string{
	"-t nat -N ISTIO_OUTPUT",
	"-t nat -A OUTPUT -p tcp -j ISTIO_OUTPUT",
	"-t nat -A ISTIO_OUTPUT -m owner --uid-owner 0 -j RETURN",
	"-t nat -A ISTIO_OUTPUT -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 15001",
	"-t mangle -A PREROUTING -p tcp -m mark --mark 0x1/0xff -j CONNMARK --save-mark",
	"-t raw -A PREROUTING -p udp --dport 53 -j CT --zone 1",
	"-t filter -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment of-another -j ACCEPT",
	"-t filter -A FORWARD -m limit --limit 5/min -j LOG --log-prefix seen",
}

// fill gives the namespace the tables, routing and addresses of others.
func (n *namespace) fill() {
	n.Helper()
	n.nft(kubeProxyLike + istioTables)
	for _, program := range []string{"iptables-nft", "ip6tables-nft"} {
		if _, err := exec.LookPath(program); err != nil {
			n.Logf("without %s", program)
			continue
		}
		for _, line := range iptablesLike {
			n.must("", program, strings.Fields(line)...)
		}
	}
	n.outside()
	for _, line := range []string{
		"rule add priority 77 fwmark 0x7 lookup 77",
		"rule add priority 78 fwmark 0x539/0xfff lookup 78",
		"rule add priority 79 from 192.0.2.0/24 lookup 133",
		"-6 rule add priority 77 iif lo lookup 77",
		"route add blackhole default table 77",
		"route add local 192.0.2.0/24 dev lo table 133",
		"-6 route add unreachable default metric 5 table 77",
		"addr add 127.0.0.6/32 dev lo",
		"addr add 2001:db8::7/128 dev lo nodad",
	} {
		n.ip(line)
	}
}

// TestOthersStay applies, replaces and removes among tables, rules, routes and
// addresses of others, which stay as they are to the byte.
func TestOthersStay(t *testing.T) {
	n := newNamespace(t)
	n.fill()
	foreign, ruleset, routing := n.foreign(), n.nft("list ruleset"), n.routing()
	s := n.session()
	still := func(after string) {
		t.Helper()
		if now := n.foreign(); now != foreign {
			t.Errorf("after %s: %s", after, changed(foreign, now))
		}
	}
	for _, step := range []struct {
		what  string
		state rules.State
		want  nft.Outcome
	}{
		{"a first apply", everything(), nft.Created},
		{"the same again", everything(), nft.Unchanged},
		{"other rules", capture{}.state(), nft.Replaced},
		{"other elements", capture{ports: []rules.Port{99}}.state(), nft.Updated},
		{"other rules and routing", contenders()[2], nft.Replaced},
		{"a remove", rules.State{}, nft.Removed},
		{"another remove", rules.State{}, nft.Absent},
	} {
		r := apply(t, s, step.state, step.want)
		still(step.what)
		if len(r.Foreign) < 10 {
			t.Errorf("%d chains of others were told", len(r.Foreign))
		}
		wantClean(t, n.session(), step.state)
	}
	if d := changed(routing, n.routing()); d != "" {
		t.Errorf("the routing changed:\n%s", d)
	}
	if after := n.nft("list ruleset"); after != ruleset {
		t.Errorf("the whole changed:\n%s", changed(ruleset, after))
	}
}

// TestOthersHoldWhatWeWant finds what is wanted there by another's hand: it is
// taken as it is, not doubled, and left by a remove.
func TestOthersHoldWhatWeWant(t *testing.T) {
	for _, tt := range []struct{ why, line, pattern string }{
		{"an address", "addr add ::6/128 dev lo nodad", `inet6 ::6/128`},
		{"a policy rule", "rule add priority 32765 fwmark 0x539/0xfff lookup 133", `fwmark 0x539/0xfff lookup 133`},
		{"an IPv6 policy rule", "-6 rule add priority 32765 fwmark 0x539/0xfff lookup 133", `fwmark 0x539/0xfff lookup 133`},
		{"a route", "route add local default dev lo table 133", `local default dev lo table 133`},
		{"an IPv6 route", "-6 route add local default dev lo table 133", `local default dev lo table 133`},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := newNamespace(t)
			n.ip(tt.line)
			before := n.routing()
			s := n.session()
			want := capture{tproxy: true}.state()
			count := func() int { return len(regexp.MustCompile(tt.pattern).FindAllString(n.routing(), -1)) }
			alone := map[bool]int{true: 1, false: 2}[tt.why == "an address"] // of each family one
			for range 2 {
				if _, err := s.Apply(context.Background(), want); err != nil {
					t.Fatal(err)
				}
				if got := count(); got != alone {
					t.Errorf("%s stands there %d times, want %d:\n%s", tt.why, got, alone, n.routing())
				}
				wantClean(t, n.session(), want)
				live, err := n.conn().Read(context.Background(), tableName)
				if err != nil {
					t.Fatal(err)
				}
				if d, err := live.Drift(); err != nil || len(d) > 0 {
					t.Errorf("without a configuration: %v, %v", d, err)
				}
				apply(t, n.session(), want, nft.Unchanged)
				// By way of another state, and back.
				apply(t, s, capture{}.state(), nft.Replaced)
			}
			apply(t, s, rules.State{}, nft.Removed)
			if d := changed(before, n.routing()); d != "" {
				t.Errorf("after the remove:\n%s", d)
			}
		})
	}
}

// TestAnotherTakesItsRuleAway leaves the wanted policy rule to another, who then
// takes it away: verify tells, and apply puts one of ours there.
func TestAnotherTakesItsRuleAway(t *testing.T) {
	n := newNamespace(t)
	n.ip("rule add priority 32765 fwmark 0x539/0xfff lookup 133")
	s := n.session()
	want := capture{tproxy: true}.state()
	apply(t, s, want, nft.Created)
	n.ip("rule del priority 32765 fwmark 0x539/0xfff lookup 133")
	if said := verify(t, s, want); !strings.Contains(said, "policy rule is missing") {
		t.Errorf("verify says %q", said)
	}
	apply(t, s, want, nft.Updated)
	wantClean(t, n.session(), want)
	apply(t, s, rules.State{}, nft.Removed)
	if left := n.ours(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestNotOurs refuses to touch what stands under a name of ours and is another's.
func TestNotOurs(t *testing.T) {
	const theirs = "add chain inet %s theirs { type filter hook input priority 0; }; add rule inet %[1]s theirs tcp dport 22 accept"
	want := capture{tproxy: true}.state()
	for _, tt := range []struct {
		why, table string
		first      bool // before an apply of ours
		script     string
	}{
		{"our table's name", tableName, true, theirs},
		{"our table's name, with nothing in it", tableName, true, ""},
		{"our table was made anew by another", tableName, false, "delete table inet %s; add table inet %[1]s; " + theirs},
		{"a set by our tag's name", tableName, true, `add set inet %s tag { type mark; elements = { 0x00000001 comment "part of mine" }; }`},
		{"the helper's name", tableName + "-next", true, theirs},
		{"the helper's name, beside ours", tableName + "-next", false, theirs},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := newNamespace(t)
			s := n.session()
			if !tt.first {
				apply(t, s, want, nft.Created)
			}
			n.nft("add table inet " + tt.table + "; " + strings.ReplaceAll(strings.ReplaceAll(tt.script, "%[1]s", tt.table), "%s", tt.table))
			ruleset, routing := n.nft("list ruleset"), n.routing()
			for _, state := range []rules.State{want, capture{}.state(), {}} {
				_, err := change(context.Background(), s, state)
				var refused *nft.NotOursError
				if !errors.As(err, &refused) || refused.Table != tt.table || !strings.Contains(err.Error(), "nft delete table inet "+tt.table) {
					t.Errorf("apply says %v", err)
				}
			}
			if said := verify(t, s, want); !strings.Contains(said, "table inet "+tt.table) && !strings.Contains(said, "is missing") {
				t.Errorf("verify says %q", said)
			}
			if d := changed(ruleset, n.nft("list ruleset")) + changed(routing, n.routing()); d != "" {
				t.Errorf("changed:\n%s", d)
			}
			n.nft("delete table inet " + tt.table) // the remedy
			if _, err := s.Apply(context.Background(), want); err != nil {
				t.Error(err)
			}
			wantClean(t, n.session(), want)
		})
	}
}

// TestWantedWithoutTag takes a table that holds what is wanted, as nft loads a
// plan, for ours: it only lacks the tag.
func TestWantedWithoutTag(t *testing.T) {
	n := newNamespace(t)
	want := capture{}.state()
	n.nft(want.String())
	s := n.session()
	if _, err := s.Remove(context.Background()); err == nil {
		t.Error("remove took it without a tag")
	}
	apply(t, s, want, nft.Updated)
	wantClean(t, n.session(), want)
	apply(t, s, rules.State{}, nft.Removed)
}
