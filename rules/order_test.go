// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"testing"
)

func TestTargetsAreDistinct(t *testing.T) {
	key := []Selector{Selector(TCPDport)}
	table := &Table{Sets: []*Set{{Name: "ways", Verdicts: true, Elements: []Element{{Verdict: Goto("a")}, {Verdict: Jump("b")}, {Verdict: Jump("a")}, {Verdict: Drop()}}}}}
	got := table.Targets(Rule{Nodes: []Node{VMap{Key: key, Map: "ways"}, VMap{Key: key, Elements: []Element{{Verdict: Jump("c")}}}, Jump("a")}})
	if want := []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("the targets are %q, want %q", got, want)
	}
}

func TestPacketOrder(t *testing.T) {
	base := func(h Hook, priority int32) *Base { return &Base{Type: FilterType, Hook: h, Priority: priority} }
	table := &Table{
		Sets: []*Set{{Name: "ways", Verdicts: true, Elements: []Element{{Verdict: Goto("far")}}}},
		Chains: []*Chain{
			{Name: "nowhere"},
			{Name: "near", Rules: []Rule{{Nodes: []Node{Jump("near")}}}}, // a loop, which no kernel takes
			{Name: "far"},
			{Name: "last", Base: base(Postrouting, 0)},
			{Name: "output", Base: base(Output, 0), Rules: []Rule{
				{Nodes: []Node{VMap{Key: []Selector{Selector(TCPDport)}, Map: "ways"}}}, {Nodes: []Node{Jump("near")}}, {Nodes: []Node{Jump("absent")}}}},
			{Name: "nat", Base: &Base{Type: NATType, Hook: Output, Priority: 50}}, // which works at -100
			{Name: "later", Base: base(Output, -1)},
			{Name: "early", Base: base(Output, -1), Rules: []Rule{{Nodes: []Node{Jump("near")}}}},
			{Name: "first", Base: base(Ingress, 5)},
		},
	}
	var got []string
	for _, c := range table.PacketOrder() {
		got = append(got, c.Name)
	}
	if want := []string{"first", "nat", "early", "near", "later", "output", "far", "last", "nowhere"}; !slices.Equal(got, want) {
		t.Errorf("packets meet %q, want %q", got, want)
	}
}
