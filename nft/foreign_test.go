// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// foreignRules are rules that the model has no words for, each in a chain where
// nft takes it.
var foreignRules = []struct{ chain, rule string }{
	{"pre", "limit rate 5/second"},
	{"pre", "limit rate over 10 mbytes/second drop"},
	{"pre", `log prefix "seen "`},
	{"pre", "log group 2 queue-threshold 3"},
	{"pre", `log prefix "seen " group 2`},
	{"pre", "ct status dnat"},
	{"pre", "ct direction original"},
	{"pre", "ct original ip daddr 10.0.0.1"},
	{"pre", "ct expiration 30s"},
	{"pre", "ct bytes > 1000"},
	{"pre", "tcp dport >= 80"},
	{"pre", "tcp dport < 1024 drop"},
	{"pre", "meta mark > 5"},
	{"pre", "ip dscp cs1"},
	{"pre", "ip ttl 1 drop"},
	{"pre", "ip protocol tcp"},
	{"pre", "ip6 hoplimit 1"},
	{"pre", "ip length 100-200"},
	{"pre", "meta mark set numgen inc mod 4"},
	{"pre", "meta mark set jhash ip saddr mod 4"},
	{"pre", "meta priority set 0x10002"},
	{"pre", "meta mark | 0x5 == 0x5"},
	{"pre", "quota over 10 mbytes drop"},
	{"pre", "counter name named"},
	{"pre", "quota name quoted drop"},
	{"ingress", "ether type ip"},
	{"pre", "tcp option maxseg size 1000"},
	{"pre", "tcp option maxseg size set 1000"},
	{"pre", "tcp doff { 5, 8 }"},
	{"pre", "meta l4proto tcp tcp window { 1000, 1001 } drop"},
	{"pre", "icmp type { echo-request, echo-reply }"},
	{"pre", "udp length > 8"},
	{"pre", "@th,0,96 1"},
	{"pre", "@nh,96,24 0x0a0000"},
	{"pre", "meta length > 100"},
	{"pre", "meta pkttype broadcast"},
	{"pre", "meta cpu 0"},
	{"pre", "meta iiftype loopback"},
	{"pre", "meta day 1"},
	{"pre", "rt classid 5"},
	{"pre", "rt ip nexthop 10.0.0.1"},
	{"pre", "exthdr frag exists"},
	{"pre", "socket wildcard 1"},
	{"pre", "fib saddr . iif oifname { \"eth0\", \"eth1\" }"},
	{"pre", "udp checksum set 0"},
	{"pre", "ip daddr set ip saddr map { 10.0.0.1 : 10.0.0.2, 10.0.0.3 : 10.0.0.4 }"},
	{"pre", "meta nftrace set 1"},
	{"pre", "queue num 3"},
	{"pre", "reject with icmpx admin-prohibited"},
	{"pre", "delete @addresses { ip saddr }"},
	{"pre", "update @addresses { ip saddr counter }"},
	{"pre", "meta mark set ip saddr map @marks"},
	{"pre", "ct mark set meta mark map { 0x1 : 0x2 }"},
	{"pre", "ether saddr 00:00:00:00:00:01"},
	{"pre", "ip saddr . icmp type { 10.0.0.1 . echo-request }"},
	{"pre", "tcp dport { 80 limit rate 1/second, 90 }"},
	{"pre", "tcp dport { 80 counter, 90 }"},
	{"pre", "ip daddr { 10.0.0.0/8, * }"},
	{"pre", "meta time > \"2020-01-01\""},
	{"nat", "tcp dport 80 dnat ip to 10.0.0.1 random"},
	{"post", "masquerade"},
	{"nat", "tcp dport 80 redirect to :80 random"},
	{"nat", "redirect persistent"},
	{"nat", "tcp dport 80 redirect to :tcp dport map { 80 : 8080 }"},
	{"post", "snat ip to 10.0.0.1-10.0.0.9"},
	{"post", "snat ip to 10.0.0.1 persistent"},
	{"post", "tcp dport 80 snat ip to 10.0.0.1:1024-2048"},
	{"pre", "tcp dport 80 tproxy ip to 127.0.0.1:tcp dport map { 80 : 8080 }"},
	{"pre", "ct helper set \"ftp-helper\""},
	{"in", "synproxy mss 1460 wscale 9"},
}

// TestForeignRules has nft load rules that the model does not know, between two
// that it does. Each must be lifted as one rule with something opaque in it: no
// wanted rule equals that.
func TestForeignRules(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	const script = `
table inet weir
delete table inet weir
table inet weir {
	counter named { }
	quota quoted { over 10 mbytes }
	ct helper ftp-helper { type "ftp" protocol tcp; }
	set addresses { type ipv4_addr; flags dynamic; }
	map marks { type ipv4_addr : mark; }
	chain %s { type %s; meta mark 0x1 accept comment "before"; %s; meta mark 0x2 drop comment "after"; }
}`
	bases := map[string]string{
		"pre":     "filter hook prerouting priority mangle",
		"in":      "filter hook input priority 0",
		"nat":     "nat hook prerouting priority dstnat",
		"post":    "nat hook postrouting priority srcnat",
		"ingress": `filter hook ingress device "lo" priority 0`,
	}
	checked := 0
	for _, f := range foreignRules {
		if err := nftLoad(fmt.Sprintf(script, f.chain, bases[f.chain], f.rule)); err != nil {
			t.Logf("%s: not to be had here: %q", f.rule, err)
			continue
		}
		checked++
		have := kernelState(t, c)
		got := have.Table.Chain(f.chain).Rules
		if len(got) != 3 || got[0].Reason != "before" || got[2].Reason != "after" {
			t.Errorf("%s: three rules were lifted as %v", f.rule, got)
			continue
		}
		if !slices.ContainsFunc(got[1].Nodes, func(n rules.Node) bool { _, opaque := n.(rules.Opaque); return opaque }) {
			t.Errorf("%s: lifted as %s, which the model knows", f.rule, got[1])
		}
		for i, known := range []bool{true, false, true} {
			alone := rules.State{Table: &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: "c", Rules: got[i : i+1]}}}}
			if known != (alone.Check() == nil) {
				t.Errorf("%s: rule %d was lifted as %s: %v", f.rule, i, got[i], alone.Check())
			}
		}
	}
	if checked < 25 {
		t.Errorf("only %d foreign rules could be loaded", checked)
	}
	t.Logf("%d of %d foreign rules", checked, len(foreignRules))
}

// TestForeignSets has nft declare one set in many ways. What the model does not
// know of a set is drift, and never a failure to read.
func TestForeignSets(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	want := rules.State{Table: &rules.Table{Name: "weir", Sets: []*rules.Set{
		{Name: "s", Key: []rules.DataType{rules.IPDaddr.Type()}, Interval: true, Elements: oneRange(rules.RangeOf(prefix("10.0.0.0/8")))},
	}}}
	for _, f := range []struct {
		why, set string
		same     bool
	}{
		{"the set as it is wanted", "set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }", true},
		{"the set by the type of a selector", "set s { typeof ip daddr; flags interval; elements = { 10.0.0.0/8 } }", true},
		{"the set in two halves", "set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/9, 10.128.0.0/9 } }", true},
		{"how the kernel stores a set is its own affair", "set s { type ipv4_addr; flags interval; auto-merge; policy memory; elements = { 10.0.0.0/8 } }", true},
		{"a catch-all element", "set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, * } }", false},
		{"a catch-all element alone", "set s { type ipv4_addr; flags interval; elements = { * } }", false},
		{"limits for all elements", "set s { type ipv4_addr; flags interval; limit rate 1/second; elements = { 10.0.0.0/8 } }", false},
		{"counters and limits for all elements", "set s { type ipv4_addr; flags interval; counter quota 500 bytes; elements = { 10.0.0.0/8 } }", false},
		{"an element that expires", "set s { type ipv4_addr; flags interval,timeout; elements = { 10.0.0.0/8 timeout 1h } }", false},
		{"an element with a comment", `set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 comment "mine" } }`, false},
		{"no element", "set s { type ipv4_addr; flags interval; }", false},
		{"another element", "set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.1 } }", false},
		{"single addresses", "set s { type ipv4_addr; elements = { 10.0.0.0 } }", false},
		{"addresses of another kind", "set s { type ether_addr; elements = { 00:00:00:00:00:01 } }", false},
		{"a concatenation with another kind", "set s { type ipv4_addr . icmp_type; elements = { 10.0.0.0 . 8 } }", false},
		{"a map", "map s { type ipv4_addr : mark; flags interval; elements = { 10.0.0.0/8 : 0x1 } }", false},
		{"a map of verdicts", "map s { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/8 : accept } }", false},
		{"a map of counters", "counter named { }\nmap s { type ipv4_addr : counter; elements = { 10.0.0.1 : \"named\" } }", false},
		{"a set that never changes", "set s { type ipv4_addr; flags interval,constant; elements = { 10.0.0.0/8 } }", false},
		{"a set of a size", "set s { type ipv4_addr; size 5; flags interval; elements = { 10.0.0.0/8 } }", false},
		{"a chain within a rule", "chain c {\n jump {\n accept\n }\n }\n set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }", false},
		{"a dormant table", "flags dormant; set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }", false},
		{"another set", "set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }\nset other { type mark; }", false},
		{"a set of another name", "set other { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }", false},
	} {
		if err := nftLoad("table inet weir\ndelete table inet weir\ntable inet weir {\n" + f.set + "\n}\n"); err != nil {
			t.Errorf("%s: %v", f.why, err)
			continue
		}
		have := kernelState(t, c)
		if d := want.Compare(have); f.same != (len(d) == 0) {
			t.Errorf("%s: differences %v in\n%s", f.why, d, have)
		}
		if f.same != (want.Hash() == have.Hash()) {
			t.Errorf("%s: hash %s, wanted %s", f.why, have.Hash(), want.Hash())
		}
	}
}
