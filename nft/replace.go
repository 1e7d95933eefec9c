// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"slices"

	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
)

// removeTable deletes a table that may not be there.
func removeTable(b *batch, name string) {
	l := lower(b, &rules.Table{Name: name})
	l.addTable()
	l.deleteTable()
}

// addWhole adds a table with everything in it.
func addWhole(b *batch, t *rules.Table, tag Tag) {
	l := lower(b, t)
	l.addTable()
	l.addAll(t, nil)
	l.addTag(tag)
}

func (l *lowering) addTag(tag Tag) {
	s := tag.set()
	l.addSet(s)
	l.addElements(s, s.Elements)
}

// replaceTag makes the tag say what this batch writes.
func (l *lowering) replaceTag(tagged bool, tag Tag) {
	if tagged {
		l.deleteSet(reserved.Tag)
	}
	l.addTag(tag)
}

// changeElements sends the elements that differ, and the tag.
func changeElements(b *batch, want *rules.Table, changes []rules.SetChange, tagged bool, tag Tag) {
	l := lower(b, want)
	for _, c := range changes {
		l.deleteElements(c.Set, c.Delete)
		l.addElements(c.Set, c.Add)
	}
	l.replaceTag(tagged, tag)
}

// replaceTable makes every chain and every changed set anew. Sets that stay the
// same stay; so do live ones, with their elements.
func replaceTable(b *batch, have, want *rules.Table, tagged bool, tag Tag) {
	l := lower(b, want)
	if len(have.Unsupported()) > 0 {
		// Something that cannot be taken out piece by piece: with the whole table.
		l.deleteTable()
		addWhole(b, want, tag)
		return
	}
	keep := func(s *rules.Set) bool { return keeps(have.Set(s.Name), s) }
	for _, c := range have.Chains {
		l.flushChain(c.Name)
	}
	for _, s := range have.Sets {
		if w := want.Set(s.Name); w == nil || !keep(w) {
			l.deleteSet(s.Name)
		}
	}
	for _, c := range have.Chains {
		l.deleteChain(c.Name)
	}
	l.addAll(want, keep)
	l.replaceTag(tagged, tag)
}

// keeps reports whether a set can stay as the kernel has it. Verdict maps
// cannot: they hold on to chains that are made anew.
func keeps(have, want *rules.Set) bool {
	return have != nil && !want.Verdicts && want.Same(have)
}

// withLiveElements is the table with the elements that its live sets have now.
func withLiveElements(want, have *rules.Table) *rules.Table {
	t := *want
	t.Sets = nil
	for _, s := range want.Sets {
		if now := have.Set(s.Name); s.Live && now != nil && takesElements(s, now) {
			c := *s
			c.Elements = now.Elements
			s = &c
		}
		t.Sets = append(t.Sets, s)
	}
	return &t
}

// takesElements reports whether a set can hold the elements of another as they are:
// a new size or a comment is no reason to lose them.
func takesElements(s, of *rules.Set) bool {
	return slices.Equal(s.Key, of.Key) && s.Interval == of.Interval && s.Verdicts == of.Verdicts && (s.Expires || !of.Expires) &&
		(s.Size == 0 || len(of.Elements) <= int(s.Size))
}
