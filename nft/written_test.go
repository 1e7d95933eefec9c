// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// largeTable has one large set, of /25s with as much between them.
func largeTable(elements int) *rules.Table {
	t := &rules.Table{Name: "weir"}
	list := make([]rules.Range, elements)
	for i := range list {
		list[i] = rules.RangeOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i)}), 25))
	}
	set := rules.IPDaddr.AddSet(t, "excluded", list...)
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	out.Add("an excluded destination is left alone", rules.IPDaddr.InSet(set), rules.Return())
	t.Chains = append(t.Chains, out)
	return t
}

// TestLargeSetByKey: a large set that an apply made is read back by key. Whatever
// another program puts in place of an element shows by that, and is then dumped.
func TestLargeSetByKey(t *testing.T) {
	if testing.Short() {
		t.Skip("120,000 entries")
	}
	if !inNamespace(t) {
		return
	}
	loUp(t)
	want := rules.State{Table: largeTable(largeSet / 2)}.Normal()
	set := want.Table.Sets[0].Name
	c := dialKernel(t)
	isDumped := func(do func()) bool { return slices.Contains(listen(c, do).elements, "weir/"+set) }
	created := isDumped(func() {
		if r, err := c.Session("weir", "test").Apply(t.Context(), want); err != nil || r.Outcome != Created {
			t.Fatalf("%s, %v", r.Outcome, err)
		}
	})
	declared, err := c.sets(t.Context(), inet("weir"))
	if err != nil {
		t.Fatal(err)
	}
	byKey := declared.counts[set] > 0 // the kernel counts elements
	if created == byKey {
		t.Errorf("a first apply dumps a large set: %t", created)
	}
	if !isDumped(func() {
		if _, found, err := c.Session("weir", "test").Verify(t.Context(), want); err != nil || len(found) > 0 {
			t.Errorf("verify: %v, %v", found, err)
		}
	}) {
		t.Error("verify takes the set for one that this program has just made")
	}
	element := func(cidr, comment string) []rules.Element {
		return []rules.Element{{Key: []rules.Range{rules.RangeOf(netip.MustParsePrefix(cidr))}, Comment: comment}}
	}
	usual := element("20.0.5.0/25", "")
	for _, tt := range []struct {
		why         string
		remove, add []rules.Element
		differs     bool
	}{
		{"as it was written", nil, nil, false},
		{"one less", usual, nil, true},
		{"a shorter one in its place", nil, element("20.0.5.0/26", ""), true},
		{"the same with a comment", element("20.0.5.0/26", ""), element("20.0.5.0/25", "why"), true},
		{"another one", usual, element("9.0.0.0/25", ""), true},
	} {
		b := &batch{}
		l := lower(b, want.Table)
		l.deleteElements(want.Table.Sets[0], tt.remove)
		l.addElements(want.Table.Sets[0], tt.add)
		if len(b.changes) > 0 {
			if err := c.commit(t.Context(), b, 0); err != nil {
				t.Fatalf("%s: %v", tt.why, err)
			}
		}
		var got *rules.Table
		dumped := isDumped(func() {
			if got, err = c.tableAlone(t.Context(), "weir", everythingOf(want.Table)); err != nil {
				t.Fatalf("%s: %v", tt.why, err)
			}
		})
		got.Sets = slices.DeleteFunc(got.Sets, isTagSet)
		if d := want.Compare(rules.State{Table: got}); len(d) > 0 != tt.differs {
			t.Errorf("%s: %v", tt.why, d)
		}
		if byKey && dumped != tt.differs {
			t.Errorf("%s: it was dumped: %t", tt.why, dumped)
		}
	}
}
