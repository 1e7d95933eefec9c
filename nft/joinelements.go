// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
)

// joinElements gives a set its elements. For intervals the kernel lists starts
// and ends, in no fixed order. What the model does not know goes to Others.
func joinElements(s *rules.Set, raw []element) { joinListed(s, pointers(raw)) }

func joinListed(s *rules.Set, raw []*element) {
	if s.Interval && len(s.Key) == 1 {
		raw = joinIntervals(raw)
	}
	var others []string
	s.Elements = slices.Grow(s.Elements, len(raw))
	ranges := make([]rules.Range, len(raw)*len(s.Key)) // of all keys, in one piece
	for _, e := range raw {
		hi := e.keyEnd
		if hi == nil {
			hi = e.key
		}
		e.Key, ranges = ranges[:len(s.Key):len(s.Key)], ranges[len(s.Key):]
		fits := splitKey(s, e.Key, e.key, hi)
		if fits {
			s.Elements = append(s.Elements, e.Element)
		} else if e.other == "" {
			e.other = "a value that does not fit the key"
		}
		if fits && unnamed(s.Key, e.Key) {
			e.other = cmp.Or(e.other, "a range of interface names")
		}
		if e.counts && !s.Counters && e.other == "" {
			e.other = "counters of their own"
		}
		if e.quota > 0 && e.quota != s.Quota && e.other == "" {
			e.other = "quotas of their own"
		}
		if e.other != "" && !slices.Contains(others, e.other) && !strings.Contains(s.Others, e.other) {
			others = append(others, e.other)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		s.Others += " elements with " + strings.Join(others, ", ")
	}
}

// unnamed reports whether a part of the key is a range of interface names that no
// wildcards make up, as nft 1.0.6 leaves it of a name beside a wildcard.
func unnamed(types []rules.DataType, key []rules.Range) bool {
	for i, d := range types {
		if d != rules.IIfName.Type() || key[i].Single() {
			continue
		}
		if _, ok := key[i].Names(); !ok {
			return true
		}
	}
	return false
}

// joinIntervals gives each start the last value before what follows it.
func joinIntervals(raw []*element) []*element {
	slices.SortFunc(raw, func(a, b *element) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return b2i(b.end) - b2i(a.end) // an end comes before the start at the same value
	})
	starts := make([]*element, 0, len(raw)/2+1)
	for i, e := range raw {
		switch {
		case e.end && e.other == "":
			continue
		case i+1 < len(raw):
			e.keyEnd = slices.Clone(raw[i+1].key)
			decrement(e.keyEnd)
		default:
			e.keyEnd = []byte(prefixMask(len(e.key)*8, len(e.key))) // open: no value comes after
		}
		starts = append(starts, e)
	}
	return starts
}

// decrement takes one off a value, as [rules.Bits.Before] does.
func decrement(value []byte) {
	for i := range slices.Backward(value) {
		value[i]--
		if value[i] != 0xff {
			return
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// splitKey takes a key apart into the ranges of its parts, and reports whether it
// has those.
func splitKey(s *rules.Set, into []rules.Range, lo, hi []byte) bool {
	for i, d := range s.Key {
		step := d.Len()
		if len(s.Key) > 1 {
			step = nl.Align(step)
		}
		if len(lo) < step || len(hi) < step {
			return false
		}
		into[i] = rules.Range{Lo: outOfSet(s, d, lo[:d.Len()]), Hi: outOfSet(s, d, hi[:d.Len()])}
		lo, hi = lo[step:], hi[step:]
	}
	return len(into) > 0 && len(lo) == 0 && len(hi) == 0
}

// outOfSet is the inverse of inSet.
func outOfSet(s *rules.Set, d rules.DataType, b []byte) rules.Bits {
	if s.Interval {
		return rules.Bits(b)
	}
	return unwire(d, b)
}
