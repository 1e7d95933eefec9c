// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"cmp"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// overlapping reports words of a list of ports that name a port of the other
// list.
func (r *reader) overlapping(key string, words []PortWord, otherKey string, others []PortWord) {
	quiet := &reader{}
	type named struct {
		rules.Range
		word string
	}
	var other []named
	for _, w := range texts(others) {
		if p, ok := quiet.portRange("", w); ok {
			other = append(other, named{p, w})
		}
	}
	slices.SortFunc(other, func(a, b named) int { return cmp.Compare(a.Lo, b.Lo) })
	for i := 1; i < len(other); i++ { // the one that reaches farthest of those up to here
		if other[i].Hi < other[i-1].Hi {
			other[i].Hi, other[i].word = other[i-1].Hi, other[i-1].word
		}
	}
	for _, w := range texts(words) {
		p, ok := quiet.portRange("", w)
		if !ok {
			continue
		}
		after, _ := slices.BinarySearchFunc(other, p.Hi, func(o named, hi rules.Bits) int {
			if o.Lo <= hi {
				return -1
			}
			return 1
		})
		if after == 0 || other[after-1].Hi < p.Lo {
			continue
		}
		if o := other[after-1].word; o != w {
			r.problem(key, w, "overlaps %q of %s", o, Ref{Key: otherKey})
		} else {
			r.problem(key, w, "is in %s too", Ref{Key: otherKey})
		}
	}
}

// sorted are ranges in their order, each once.
func sorted(in []rules.Range) []rules.Range {
	out := slices.Clone(in)
	slices.SortFunc(out, compareRanges)
	return slices.Compact(out)
}

func compareRanges(a, b rules.Range) int {
	return cmp.Or(cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi))
}
