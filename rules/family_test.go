// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"testing"
)

func TestExpand(t *testing.T) {
	table := &Table{Name: "t"}
	both := table.AddPrefixSets("both", prefix("10.0.0.0/8"), prefix("fd00::/8"))
	six := table.AddPrefixSets("six", prefix("fd00::/8"))
	four, v6, mapped := prefix("10.0.0.0/8"), prefix("fd00::/8"), prefix("::ffff:10.0.0.0/104")
	families := []Family{IPv4, IPv6}
	for _, tt := range []struct {
		why      string
		families []Family
		nodes    []Node
		want     []string
	}{
		{"a rule without an address stands once", families, []Node{TCPDport.Is(80), Accept()}, []string{"tcp dport 80 accept"}},
		{"a rule of one family's own selector stands once", families, []Node{IPDaddr.Is(four), Accept()}, []string{"ip daddr 10.0.0.0/8 accept"}},
		{"a list of both families is two rules", families, []Node{Daddr.In(four, v6), Accept()},
			[]string{"ip daddr 10.0.0.0/8 accept", "ip6 daddr fd00::/8 accept"}},
		{"a source is read as a destination is", families, []Node{Saddr.In(v6, four), Accept()},
			[]string{"ip saddr 10.0.0.0/8 accept", "ip6 saddr fd00::/8 accept"}},
		{"a family that is left alone gets no rule", []Family{IPv4}, []Node{Daddr.In(four, v6), Accept()}, []string{"ip daddr 10.0.0.0/8 accept"}},
		{"a list of one family matches nothing of the other", families, []Node{Daddr.Is(v6), Accept()}, []string{"ip6 daddr fd00::/8 accept"}},
		{"a negated list of one family matches all of the other", families, []Node{Daddr.Not(v6), Accept()},
			[]string{"meta nfproto ipv4 accept", "ip6 daddr != fd00::/8 accept"}},
		{"a mapped prefix is of IPv6", families, []Node{Daddr.Is(mapped), Accept()}, []string{"ip6 daddr ::ffff:10.0.0.0/104 accept"}},
		{"an empty list matches nothing", families, []Node{Daddr.In(), Accept()}, nil},
		{"a set of both families is one set for each", families, []Node{Daddr.InSet(both), Accept()},
			[]string{"ip daddr @both_ipv4 accept", "ip6 daddr @both_ipv6 accept"}},
		{"a set that has no prefix of a family matches nothing there", families, []Node{Daddr.InSet(six), Accept()}, []string{"ip6 daddr @six_ipv6 accept"}},
		{"negated, such a set matches all of the family", families, []Node{Daddr.NotInSet(six), Accept()},
			[]string{"meta nfproto ipv4 accept", "ip6 daddr != @six_ipv6 accept"}},
		{"two addresses in one rule are of one family", families, []Node{Saddr.In(four, v6), Daddr.InSet(both), Accept()},
			[]string{"ip saddr 10.0.0.0/8 ip daddr @both_ipv4 accept", "ip6 saddr fd00::/8 ip6 daddr @both_ipv6 accept"}},
		{"where one of two addresses matches nothing, so does the rule", families, []Node{Saddr.Is(four), Daddr.Not(v6), Accept()},
			[]string{"ip saddr 10.0.0.0/8 accept"}},
		{"two addresses of different families never meet", families, []Node{Saddr.Is(four), Daddr.Is(v6), Accept()}, nil},
		{"what stands around the address stays in its place", families, []Node{TCPDport.Is(80), Counter{}, Daddr.Is(four), Accept()},
			[]string{"tcp dport 80 counter ip daddr 10.0.0.0/8 accept"}},
	} {
		rules := table.Expand(Rule{Nodes: tt.nodes}, tt.families...)
		if got := texts(rules); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

func TestExpandKeepsTheReason(t *testing.T) {
	rules := (&Table{}).Expand(Rule{"a reason", []Node{Daddr.In(prefix("10.0.0.0/8"), prefix("fd00::/8")), Accept()}}, IPv4, IPv6)
	for _, r := range rules {
		if r.Reason != "a reason" {
			t.Errorf("%s: the reason is %q", r, r.Reason)
		}
	}
	if len(rules) != 2 {
		t.Errorf("got %d rules", len(rules))
	}
}

func TestAddPrefixSets(t *testing.T) {
	for _, tt := range []struct {
		why      string
		prefixes []string
		want     []string
	}{
		{"nothing needs no set", nil, nil},
		{"one family needs one set", []string{"10.0.0.0/8"}, []string{"s_ipv4"}},
		{"two families need two", []string{"fd00::/8", "10.0.0.0/8"}, []string{"s_ipv4", "s_ipv6"}},
	} {
		table := &Table{Name: "t"}
		set := table.AddPrefixSets("s", mapped(tt.prefixes, prefix)...)
		if set.Name != "s" {
			t.Errorf("%s: the set is called %s", tt.why, set.Name)
		}
		var names []string
		held := 0
		for _, s := range table.Sets {
			names = append(names, s.Name)
			held += len(s.Elements)
			if !s.Interval {
				t.Errorf("%s: %s holds no ranges", tt.why, s.Name)
			}
		}
		if !slices.Equal(names, tt.want) || held != len(tt.prefixes) {
			t.Errorf("%s: got %q with %d prefixes", tt.why, names, held)
		}
	}
}
