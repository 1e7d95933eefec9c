// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestOrderThatDoesNotMatter holds Compare and Hash to one opinion of the order
// in which things are declared.
func TestOrderThatDoesNotMatter(t *testing.T) {
	table := func(edit func(*rules.Table)) rules.State {
		out := rulesTable()
		second := &rules.Chain{Name: "second", Base: base(rules.FilterType, rules.Prerouting, rules.PriorityMangle)}
		out.Chains = append(out.Chains, second)
		out.Chains[4-1].Base.Devices = []string{"lo", "eth0"}
		edit(out)
		return rules.State{Table: out}
	}
	swap := func(a, b string) func(*rules.Table) {
		return func(t *rules.Table) {
			at := func(name string) int {
				return slices.IndexFunc(t.Chains, func(c *rules.Chain) bool { return c.Name == name })
			}
			i, j := at(a), at(b)
			t.Chains[i], t.Chains[j] = t.Chains[j], t.Chains[i]
		}
	}
	for _, tt := range []struct {
		why  string
		edit func(*rules.Table)
		same bool
	}{
		{"as it is", func(*rules.Table) {}, true},
		{"chains of different hooks", swap("output", "prerouting"), true},
		{"chains of one hook and different priorities", swap("prerouting", "raw"), true},
		{"a regular chain comes first", swap("there", "output"), true},
		{"chains of one hook and priority run as they were declared", swap("prerouting", "second"), false},
		{"sets", func(t *rules.Table) { slices.Reverse(t.Sets) }, true},
		{"devices", func(t *rules.Table) { slices.Reverse(t.Chain("of_devices").Base.Devices) }, true},
		{"a device fewer", func(t *rules.Table) { t.Chain("of_devices").Base.Devices = []string{"lo"} }, false},
		{"rules", func(t *rules.Table) { slices.Reverse(t.Chain("output").Rules) }, false},
		{"matches of a rule", func(t *rules.Table) { slices.Reverse(t.Chain("output").Rules[0].Nodes[:3]) }, false},
	} {
		want, have := table(func(*rules.Table) {}), table(tt.edit)
		if d := want.Compare(have); tt.same != (len(d) == 0) {
			t.Errorf("%s: differences %v", tt.why, d)
		}
		if tt.same != (want.Hash() == have.Hash()) {
			t.Errorf("%s: hashes %s and %s", tt.why, want.Hash(), have.Hash())
		}
	}
}

// TestLongRulesAreCutToWhatDiffers: a rule of another hand may hold any number
// of values.
func TestLongRulesAreCutToWhatDiffers(t *testing.T) {
	list := func(last rules.Port) rules.State {
		var all []rules.Port
		for p := rules.Port(1); p < 20000; p += 2 {
			all = append(all, p)
		}
		return ruleState(rules.TCPDport.In(append(all, last)...), rules.Drop())
	}
	d := list(30000).Compare(list(40000))
	if len(d) != 1 || len(d[0].String()) > 10000 || !strings.Contains(d[0].Want, "30000") || !strings.Contains(d[0].Have, "40000") {
		t.Errorf("of two long rules it is told %v", d)
	}
}

// only is one port as a set's elements.
func only(p rules.Port) []rules.Element { return []rules.Element{{Key: []rules.Range{ports(p, p)}}} }

func TestSame(t *testing.T) {
	for _, tt := range []struct {
		why  string
		edit func(*rules.Set)
		same bool
	}{
		{"as it is", func(*rules.Set) {}, true},
		{"another element", func(s *rules.Set) { s.Elements = only(81) }, false},
		{"no element", func(s *rules.Set) { s.Elements = nil }, false},
		{"a comment", func(s *rules.Set) { s.Elements[0].Comment = "web" }, false},
		{"a flag", func(s *rules.Set) { s.Counters = true }, false},
		{"what a dump counted", func(s *rules.Set) { s.Elements[0].Counter.Packets = 7 }, true},
		{"another name is none of its affair", func(s *rules.Set) { s.Name = "other" }, true},
	} {
		set := func() *rules.Set {
			return &rules.Set{Name: "s", Key: types(rules.TCPDport.Type()), Elements: only(80)}
		}
		other := set()
		tt.edit(other)
		if set().Same(other) != tt.same {
			t.Errorf("%s: the same is %v", tt.why, !tt.same)
		}
	}
	live := &rules.Set{Name: "s", Key: types(rules.TCPDport.Type()), Live: true}
	seen := *live
	seen.Elements = only(80)
	if !live.Same(&seen) {
		t.Error("a live set is another for what it has seen")
	}
}

// TestRulesThatDiffer: what prints alike, or nearly so, is not equal for that.
func TestRulesThatDiffer(t *testing.T) {
	port := func(key rules.Key[rules.Port], v, mask rules.Port) rules.Match {
		m := key.Is(v)
		m.Mask = rules.RangeOf(mask).Lo
		return m
	}
	commented := rules.TCPDport.Is(80)
	commented.Elements[0].Comment = "web"
	one := rules.Match{Key: selectors(rules.MetaMark.Selector(), rules.SkUID.Selector()),
		Elements: []rules.Element{{Key: []rules.Range{rules.RangeOf(rules.Mark(1)), rules.RangeOf(rules.UID(2))}}}}
	ranged := one
	ranged.Elements = []rules.Element{{Key: []rules.Range{rules.RangeOf(rules.Mark(1)), rules.RangeBetween(rules.UID(2), rules.UID(3))}}}
	for _, tt := range []struct {
		why  string
		a, b rules.Rule
	}{
		{"a second port is compared under a mask",
			rules.Rule{Nodes: []rules.Node{rules.TCPSport.Is(1), rules.TCPDport.Is(0)}},
			rules.Rule{Nodes: []rules.Node{rules.TCPSport.Is(1), port(rules.TCPDport, 0, 0xff00)}}},
		{"a second port is compared under another mask",
			rules.Rule{Nodes: []rules.Node{rules.TCPSport.Is(1), port(rules.TCPDport, 0, 0xff)}},
			rules.Rule{Nodes: []rules.Node{rules.TCPSport.Is(1), port(rules.TCPDport, 0, 0xff00)}}},
		{"a comment is of the rule, or of its element",
			rules.Rule{Reason: "web", Nodes: []rules.Node{rules.TCPDport.Is(80)}},
			rules.Rule{Nodes: []rules.Node{commented}}},
		{"one concatenation is of a value, or of a range",
			rules.Rule{Nodes: []rules.Node{one}}, rules.Rule{Nodes: []rules.Node{ranged}}},
	} {
		state := func(r rules.Rule) rules.State {
			return rules.State{Table: &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: "c", Rules: []rules.Rule{r}}}}}
		}
		a, b := state(tt.a), state(tt.b)
		if len(a.Compare(b)) == 0 || a.Hash() == b.Hash() {
			t.Errorf("%s: equal are\n%s\n%s", tt.why, a, b)
		}
	}
}
