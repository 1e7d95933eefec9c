// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// TestRulesetReadsTablesOfAnyone reads tables that nft loaded, of several
// families.
func TestRulesetReadsTablesOfAnyone(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	if err := nftLoad(`
table ip proxy {
	set tag {
		type mark
		elements = { 1 comment "somebody's own" }
	}
	chain output {
		type nat hook output priority -100
		ip daddr 10.0.0.0/8 tcp dport 80 redirect to :15001 comment "captured"
		numgen random mod 2 vmap { 0 : accept, 1 : drop }
	}
}
table bridge b {
	chain c {
		ether type arp accept
	}
}
`); err != nil {
		t.Fatal(err)
	}
	state := listed()
	if _, err := c.Session("weir", "test").Apply(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	r, err := c.Ruleset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, table := range r.Tables {
		titles = append(titles, table.Title())
	}
	if want := []string{"bridge b", "inet weir", "ip proxy"}; !slices.Equal(titles, want) {
		t.Fatalf("the tables are %q, want %q", titles, want)
	}
	beside, err := c.RulesetBeside(t.Context(), func(t *LiveTable) bool { return t.Name == "weir" })
	if err != nil {
		t.Fatal(err)
	}
	if holds := func(t *LiveTable) bool {
		return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return len(c.Rules) > 0 })
	}; holds(beside.Find("inet", "weir")) || !holds(beside.Find("ip", "proxy")) || !holds(r.Find("inet", "weir")) {
		t.Error("of the table that is known already the rules are read again, or of others they are not")
	}
	if beside.Find("inet", "weir").Registered(beside.Find("ip", "proxy")) != r.Find("inet", "weir").Registered(r.Find("ip", "proxy")) {
		t.Error("the order of the tables is not known without the rules of one")
	}
	proxy := r.Find("ip", "proxy")
	if proxy.Tag != nil || proxy.Set("tag") == nil {
		t.Errorf("a set by the name of weir's tag is taken for one: %v", proxy.Sets)
	}
	if r.Find("inet", "weir").Tag == nil {
		t.Error("weir's own tag is not read")
	}
	chain := proxy.Chain("output")
	for i, want := range []string{
		`ip daddr 10.0.0.0/8 tcp dport 80 redirect to :15001 comment "captured"`,
		`<unknown: numgen> <unknown: lookup>`,
	} {
		if got := chain.Rules[i].String(); got != want {
			t.Errorf("rule %d of ip proxy reads\n%s, want\n%s", i+1, got, want)
		}
	}
	handles := 0
	for h := range uint64(100) {
		if p, ok := proxy.Rule(h); ok && p.Chain == "output" {
			handles++
		}
	}
	if handles != len(chain.Rules) {
		t.Errorf("%d handles lead to the %d rules", handles, len(chain.Rules))
	}
}

// TestHooksOfOtherFamilies: arp and netdev count their hooks in ways of their own.
func TestHooksOfOtherFamilies(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if err := nftLoad(`
table netdev n {
	chain ingress {
		type filter hook ingress device "lo" priority 0
	}
	chain egress {
		type filter hook egress device "lo" priority 0
	}
}
table arp a {
	chain input {
		type filter hook input priority 0
	}
	chain output {
		type filter hook output priority 0
	}
}
table bridge b {
	chain postrouting {
		type filter hook postrouting priority 0
	}
}
table inet i {
	chain ingress {
		type filter hook ingress device "lo" priority 0
	}
	map marks {
		type ipv4_addr : mark
		elements = { 192.0.2.1 : 5 }
	}
}
`); err != nil {
		t.Fatal(err)
	}
	r, err := dialKernel(t).Ruleset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range r.Tables {
		for _, c := range table.Chains {
			if c.Base.Hook.String() != c.Name {
				t.Errorf("chain %s of table %s is read as one of %s", c.Name, table.Title(), c.Base.Hook)
			}
		}
	}
	const want = "type ipv4_addr : verdict; <unknown: data that is not a verdict>"
	if got := r.Find("inet", "i").Set("marks").Declaration(); got != want {
		t.Errorf("the map of marks is declared as %q, want %q", got, want)
	}
}

func TestFeaturesAreTriedWithoutTrace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	trials, err := c.Try(t.Context(), Features())
	if err != nil {
		t.Fatal(err)
	}
	for _, trial := range trials {
		if trial.Err != nil {
			t.Errorf("%s (%s): %v", trial.Name, trial.Option, trial.Err)
		}
	}
	if left := nftList(t, "ruleset"); left != "" {
		t.Errorf("the trials left\n%s", left)
	}
	missing := Feature{Name: "an expression of no kernel", table: trial(nil, opaque([]expression{{raw: noExpression()}}))}
	if trials, err = c.Try(t.Context(), []Feature{missing}); err != nil || trials[0].Err == nil {
		t.Errorf("%s is there: %v, %v", missing.Name, trials, err)
	}
}

// TestEveryExpressionIsTried: whatever the model's nodes need of a kernel beyond
// nf_tables itself is among the features.
func TestEveryExpressionIsTried(t *testing.T) {
	tried := map[string]bool{}
	for _, f := range Features() {
		if f.table == nil {
			continue
		}
		b := &batch{}
		lower(b, f.table).addAll(f.table, nil)
		for _, c := range b.changes {
			for _, e := range c.exprs {
				tried[e] = true
			}
		}
	}
	for _, r := range allRows(t) {
		table := r.state().Table
		b := &batch{}
		lower(b, table).addAll(table, nil)
		for _, c := range b.changes {
			for _, e := range c.exprs {
				if option := features[e]; option != "" && option != "CONFIG_NF_TABLES" && !tried[e] {
					t.Errorf("%s of %s is not tried", e, c.where)
				}
			}
		}
	}
	for _, e := range []string{"redir", "tproxy", "socket", "fib", "ct", "nat", "notrack", "limit", "counter"} {
		if !tried[e] {
			t.Errorf("%s is not tried", e)
		}
	}
}

func noExpression() []byte {
	return encode(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_EXPR_NAME, "weirnone") })
}
