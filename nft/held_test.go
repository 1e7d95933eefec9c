// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"reflect"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestKeysAreLoadedOnce: what a rule reads again as it was is in the registers still, and is not loaded again; it is
// where something else was read meanwhile, or a mask or a statement may have changed it.
func TestKeysAreLoadedOnce(t *testing.T) {
	peer := []rules.Selector{rules.IPDaddr.Selector(), rules.L4Proto.Selector(), rules.ThDport.Selector()}
	owned := append(peer[:3:3], rules.SkUID.Selector())
	table := &rules.Table{Name: "weir", Sets: []*rules.Set{
		{Name: "peers", Key: rules.Match{Key: peer}.Types(), Dynamic: true, Size: 16, Live: true},
		{Name: "sent", Key: rules.Match{Key: owned}.Types(), Dynamic: true, Size: 16, Live: true, Counters: true},
		{Name: "marks", Key: []rules.DataType{rules.MetaMark.Type()}},
	}}
	called := rules.Match{Key: peer, Set: "peers"}
	refreshed, counted := rules.Dynset{Update: true, Key: peer, Set: "peers"}, rules.Dynset{Update: true, Key: owned, Set: "sent"}
	marked := rules.Match{Key: []rules.Selector{rules.MetaMark.Selector()}, Set: "marks"}
	masked := marked
	masked.Mask = rules.RangeOf(rules.Mark(0xff)).Lo
	for _, tt := range []struct {
		why   string
		nodes []rules.Node
		want  string
	}{
		{"a key that goes on is loaded once", []rules.Node{called, refreshed, counted, rules.Return()},
			"meta cmp payload meta payload lookup dynset meta dynset immediate"},
		{"a longer one holds a shorter one", []rules.Node{counted, refreshed}, "meta cmp payload meta payload meta dynset dynset"},
		{"another match takes the registers", []rules.Node{called, rules.TCPDport.Is(53), refreshed},
			"meta cmp payload meta payload lookup meta cmp payload cmp payload meta payload dynset"},
		{"a protocol that is settled does", []rules.Node{called, rules.L4Proto.Is(rules.TCP), refreshed},
			"meta cmp payload meta payload lookup meta cmp payload meta payload dynset"},
		{"a statement does", []rules.Node{called, rules.MetaMark.Set(1), refreshed},
			"meta cmp payload meta payload lookup immediate meta payload meta payload dynset"},
		{"what is masked is not what was read", []rules.Node{masked, marked}, "meta bitwise lookup meta lookup"},
		{"nor is what was read what is masked", []rules.Node{marked, masked}, "meta lookup meta bitwise lookup"},
	} {
		b := &batch{}
		l := lower(b, table)
		l.addRule("chain", 0, rules.Rule{Nodes: tt.nodes})
		if got := strings.Join(b.changes[0].exprs, " "); got != tt.want {
			t.Errorf("%s:\n%s, want\n%s", tt.why, got, tt.want)
		}
		w := &ruleWriter{lowering: l}
		for _, n := range tt.nodes {
			w.node(n)
		}
		exprs, err := list(w.list)
		if err != nil {
			t.Fatal(err)
		}
		rule := rules.Rule{Nodes: liftRule(exprs, l.sets, 0)}
		want := rules.State{Table: &rules.Table{Chains: []*rules.Chain{{Rules: []rules.Rule{{Nodes: tt.nodes}}}}}}.Normal()
		have := rules.State{Table: &rules.Table{Chains: []*rules.Chain{{Rules: []rules.Rule{rule}}}}}.Normal()
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s: it is lifted as %s", tt.why, rule)
		}
	}
}
