// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

func element(address, comment string) rules.Element {
	return rules.Element{Key: []rules.Range{rules.RangeOf(netip.MustParsePrefix(address + "/32"))}, Comment: comment}
}

// TestChangeLive: what is decided holds of the sets as they are when it is
// committed, and nothing but live sets is changed.
func TestChangeLive(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	want, _, err := modes.State(modes.Config{Mode: modes.ModeAmbientHost, Probes: modes.Probes{From: "uids", UIDs: []string{"0"}}}, modes.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	s, c := n.session(), n.conn()
	if _, err := s.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	probes := func(table *rules.Table) *rules.Set { return table.Set(modes.ProbeSet(rules.IPv4)) }
	change := func(s *rules.Set, add, remove []rules.Element) []rules.SetChange {
		return []rules.SetChange{{Set: s, Add: add, Delete: remove}}
	}

	var seen []int // elements, each time that it was asked
	changes, err := c.ChangeLive(t.Context(), tableName, func(table *rules.Table) ([]rules.SetChange, error) {
		now := probes(table)
		seen = append(seen, len(now.Elements))
		if len(seen) == 1 {
			n.nft(`add element inet weir probes_ipv4 { 10.0.0.1 comment "another" }`)
		}
		if slices.ContainsFunc(now.Elements, func(e rules.Element) bool { return e.Comment == "mine" }) {
			return nil, nil
		}
		return change(now, []rules.Element{element("10.0.0.2", "mine")}, nil), nil
	})
	if err != nil || len(changes) != 1 || !slices.Equal(seen, []int{0, 1, 2}) {
		t.Errorf("%v, %v; elements were %v (want another's meanwhile, and then both)", changes, err, seen)
	}

	before := n.nft("list ruleset")
	if _, err := c.ChangeLive(t.Context(), tableName, func(table *rules.Table) ([]rules.SetChange, error) {
		return change(table.Set("probe_uids"), []rules.Element{{Key: []rules.Range{rules.RangeOf(rules.UID(1))}}}, nil), nil
	}); err == nil || !strings.Contains(err.Error(), "set probe_uids is declared") {
		t.Errorf("a declared set: %v", err)
	}
	if _, err := c.ChangeLive(t.Context(), tableName, func(table *rules.Table) ([]rules.SetChange, error) {
		return change(probes(table), []rules.Element{element("10.0.0.3", "x")}, []rules.Element{element("10.0.0.9", "absent")}), nil
	}); err == nil {
		t.Error("an absent element was deleted")
	}
	if after := n.nft("list ruleset"); after != before {
		t.Errorf("what failed changed something:\n%s", changed(before, after))
	}
	if result, err := s.Apply(t.Context(), want); err != nil || result.Outcome != "unchanged" {
		t.Errorf("elements of live sets are drift: %v, %v", result.Differences, err)
	}
}

// TestLiveElementsOutliveADeclaration: a version that declares a live set otherwise
// keeps what the set holds, if it can hold it.
func TestLiveElementsOutliveADeclaration(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why    string
		change func(*rules.Set)
		kept   int
	}{
		{"a larger set takes them all", func(s *rules.Set) { s.Size *= 2 }, 2},
		{"a smaller set takes them while they fit", func(s *rules.Set) { s.Size = 2 }, 2},
		{"a set that is too small starts empty", func(s *rules.Set) { s.Size = 1 }, 0},
		{"a set of elements that may time out takes those that do not", func(s *rules.Set) { s.Expires = true }, 2},
		{"a set with another key starts empty", func(s *rules.Set) { s.Key = []rules.DataType{rules.TCPDport.Type()} }, 0},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			n := newNamespace(t)
			set := &rules.Set{Name: "pods", Key: []rules.DataType{rules.IPDaddr.Type()}, Live: true, Size: 100}
			s := n.session()
			if _, err := s.Apply(t.Context(), rules.State{Table: &rules.Table{Name: tableName, Sets: []*rules.Set{set}}}); err != nil {
				t.Fatal(err)
			}
			n.nft(`add element inet weir pods { 10.0.0.1 comment "one", 10.0.0.2 }`)
			declared := *set
			tt.change(&declared)
			if _, err := s.Apply(t.Context(), rules.State{Table: &rules.Table{Name: tableName, Sets: []*rules.Set{&declared}}}); err != nil {
				t.Fatal(err)
			}
			live, err := n.conn().Read(t.Context(), tableName)
			if err != nil {
				t.Fatal(err)
			}
			if got := live.State.Table.Set("pods").Elements; len(got) != tt.kept {
				t.Errorf("the set holds %v, want %d of its two elements", got, tt.kept)
			}
		})
	}
}
