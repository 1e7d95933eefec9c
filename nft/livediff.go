// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
)

// Differences lists in what the live state is not the wanted one, with what a
// killed apply left behind; and if nothing else differs, the tag.
func (l *Live) Differences(want rules.State) []rules.Difference {
	return l.contrast(want.Normal()).Differences
}

// contrast compares with a state in normal form. Its differences are those of
// Differences.
func (l *Live) contrast(want rules.State) rules.Changes {
	have := l.routing.ours(want, l.Tag)
	for _, r := range l.routing.gone { // nothing lacks it
		if slices.Contains(want.Routes, r) {
			have.Routes = append(have.Routes, r)
		}
	}
	have = have.Normal()
	have.Table = l.State.Table
	c := want.ChangesFrom(have)
	if len(c.Differences) == 0 && want.Table != nil {
		c.Differences = l.tagDifferences(want) // else it is one more consequence
	}
	if !continuity.IsDraining(want.Table) {
		c.Differences = append(c.Differences, l.draining()...)
	}
	c.Differences = append(c.Differences, l.extras()...)
	return c
}

// changeTo is how the tables differ, with elements as the kernel has them.
func (l *Live) changeTo(want rules.State, known rules.Changes) rules.Changes {
	if l.listed == l.State.Table {
		return known
	}
	return (rules.State{Table: want.Table}).ChangesFrom(rules.State{Table: l.listed})
}

// draining says of a table that it captures nothing, which its tag takes for right.
func (l *Live) draining() []rules.Difference {
	if !continuity.IsDraining(l.State.Table) {
		return nil
	}
	return []rules.Difference{{Where: "table inet " + l.table,
		Have: "draining: nothing new is captured, and captured connections go on; weir remove ends them, weir apply captures again"}}
}

// Leftovers is what a killed apply left behind: without a table that includes
// all routing of weir's.
func (l *Live) Leftovers() []rules.Difference {
	if l.State.Table == nil {
		return l.Differences(rules.State{})
	}
	return l.extras()
}

// extras are what is never wanted.
func (l *Live) extras() []rules.Difference {
	d := l.routing.differences()
	if l.Leftover {
		d = append(d, rules.Difference{Where: "table inet " + reserved.Next(l.table), Have: "left by an apply that was cut short; the next apply or remove takes it away"})
	}
	for _, s := range l.notOurs {
		if s.Table != l.table {
			d = append(d, rules.Difference{Where: "table inet " + s.Table, Have: "weir did not write it, and neither applies nor removes while it is there"})
		}
	}
	return d
}

func (l *Live) tagDifferences(want rules.State) []rules.Difference {
	if l.Tag == nil {
		return []rules.Difference{{Where: "set " + reserved.Tag, Want: "what weir wrote, and which version"}}
	}
	written := newTag(l.routing.withoutForeign(want), "", want.Addresses, nil)
	if l.Tag.Schema == tagSchema && !l.Tag.says(written) {
		return []rules.Difference{{Where: "set " + reserved.Tag, Want: "state " + written.Hash, Have: "state " + escape.Text(l.Tag.Hash)}}
	}
	return nil
}

// Drift compares the live state with what its tag says was written, for those
// who have no configuration at hand: it names the chains, sets, policy rules,
// routes and addresses that are not as they were.
func (l *Live) Drift() ([]rules.Difference, error) {
	if l.State.Table == nil {
		return l.Leftovers(), nil
	}
	if l.Tag == nil {
		return append(l.tagDifferences(rules.State{}), l.extras()...), nil
	}
	if l.Tag.Schema != tagSchema {
		return nil, fmt.Errorf("the tag is of schema %d, this program knows %d: compare with a configuration", l.Tag.Schema, tagSchema)
	}
	have := l.routing.ours(rules.State{Addresses: l.Tag.Addresses}, nil)
	have.Routes = append(have.Routes, l.routing.gone...)
	have.Table = l.State.Table
	return slices.Concat(l.Tag.differences(have), l.draining(), l.extras()), nil
}
