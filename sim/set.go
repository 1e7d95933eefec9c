// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"sort"

	"github.com/weir-mesh/weir/rules"
)

// index is a set as it is looked up.
type index struct {
	elements []rules.Element // of a plain key sorted, none of them overlapping
	plain    bool
	live     bool
	dynamic  bool // packets alone add to it
	size     int  // 0: no limit
	strange  string
}

func newIndex(s *rules.Set) *index {
	plain := len(s.Key) == 1 && !slices.ContainsFunc(s.Elements, func(e rules.Element) bool { return len(e.Key) != 1 })
	return &index{s.Normal().Elements, plain, s.Live, s.Dynamic, int(s.Size), s.Others}
}

// find is the element that holds the key.
func (x *index) find(key []rules.Bits) *rules.Element {
	if x.plain && len(key) == 1 {
		return sortedElement(x.elements, key[0])
	}
	return anyElement(x.elements, key)
}

func sortedElement(elements []rules.Element, v rules.Bits) *rules.Element {
	i := sort.Search(len(elements), func(i int) bool { return elements[i].Key[0].Lo > v })
	if i == 0 || elements[i-1].Key[0].Hi < v {
		return nil
	}
	return &elements[i-1]
}

func anyElement(elements []rules.Element, key []rules.Bits) *rules.Element {
	for i := range elements {
		if holds(&elements[i], key) {
			return &elements[i]
		}
	}
	return nil
}

// holds reports whether every part of the key lies in its range.
func holds(e *rules.Element, key []rules.Bits) bool {
	if len(e.Key) != len(key) {
		return false
	}
	for i, r := range e.Key {
		if key[i] < r.Lo || r.Hi < key[i] {
			return false
		}
	}
	return true
}
