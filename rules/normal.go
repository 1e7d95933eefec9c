// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Normal is the state with what does not matter put in order: elements sorted,
// overlapping and adjacent ranges merged, matches that another match implies
// left out, a mask of all ones dropped. States that say the same have equal
// normal forms. Live elements and what a dump counted stay as they are.
func (s State) Normal() State {
	n := s
	if s.Table != nil {
		t := *s.Table
		t.Sets = mapped(t.Sets, func(s *Set) *Set { c := s.Normal(); return &c })
		t.Chains = mapped(t.Chains, func(c *Chain) *Chain {
			nc := *c
			nc.Base = c.Base.normal()
			nc.Rules = mapped(c.Rules, Rule.normal)
			return &nc
		})
		t.Others = slices.Sorted(slices.Values(t.Others))
		n.Table = &t
	}
	n.PolicyRules = sortedUnique(s.PolicyRules, func(a, b PolicyRule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Mark, b.Mark),
			cmp.Compare(a.Mask, b.Mask), cmp.Compare(a.Table, b.Table), cmp.Compare(a.In, b.In), cmp.Compare(a.Goto, b.Goto))
	})
	masked := mapped(s.Routes, func(r Route) Route { return Route{r.Family, r.Table, r.Dst.Masked(), r.Device} })
	n.Routes = sortedUnique(masked, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Table, b.Table), a.Dst.Compare(b.Dst), cmp.Compare(a.Device, b.Device))
	})
	n.Addresses = sortedUnique(s.Addresses, netip.Prefix.Compare)
	return n
}

// normal is the base with its devices in order: a packet comes from one.
func (b *Base) normal() *Base {
	if b == nil || len(b.Devices) < 2 {
		return b
	}
	n := *b
	n.Devices = sortedUnique(b.Devices, strings.Compare)
	return &n
}

func mapped[T, U any](in []T, f func(T) U) []U {
	out := make([]U, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

func sortedUnique[T comparable](in []T, order func(a, b T) int) []T {
	out := slices.Clone(in)
	slices.SortFunc(out, order)
	return slices.Compact(out)
}

// Normal is the set with its elements in normal form, see [State.Normal].
func (s Set) Normal() Set {
	s.Elements = normalElements(withoutNameRanges(s.Elements, s.Key), s.joining())
	return s
}

// joining is how the ranges of a list become one.
type joining uint8

const (
	apart    joining = iota
	overlaps         // where they overlap
	touches          // also where one follows the other
)

// joining of a live set is none: it stays as the kernel has it.
func (s *Set) joining() joining { return joiningOf(s.Key, s.Interval && !s.Verdicts && !s.Live) }

// joiningOf leaves wildcards that follow each other (eth0*, eth1*) two: there is
// no wildcard for both.
func joiningOf(key []DataType, joined bool) joining {
	switch {
	case !joined || len(key) != 1:
		return apart
	case key[0] == ifNameType:
		return overlaps
	}
	return touches
}

// normalElements sorts elements, and joins ranges that say no more than their
// keys.
func normalElements(in []Element, how joining) []Element {
	if isNormal(in, how) {
		return in // lists are long, and normal more often than not
	}
	sorted := make([]*Element, len(in)) // elements are large
	for i := range in {
		sorted[i] = &in[i]
	}
	slices.SortFunc(sorted, func(a, b *Element) int {
		return cmp.Or(compareKeys(a.Key, b.Key), strings.Compare(a.Comment, b.Comment))
	})
	out := make([]Element, 0, len(in))
	for i, e := range sorted {
		if i == 0 {
			out = append(out, *e)
			continue
		}
		last := &out[len(out)-1]
		switch {
		case slices.Equal(last.Key, e.Key) && last.saysSame(e):
		case joins(last, e, how):
			r := last.Key[0]
			last.Key = []Range{{r.Lo, max(r.Hi, e.Key[0].Hi)}}
		default:
			out = append(out, *e)
		}
	}
	return out
}

// isNormal reports whether elements are sorted, and none is to be joined with
// the one before it.
func isNormal(in []Element, how joining) bool {
	for i := 1; i < len(in); i++ {
		if compareKeys(in[i-1].Key, in[i].Key) >= 0 || joins(&in[i-1], &in[i], how) {
			return false
		}
	}
	return true
}

// joins reports whether b, which sorts after a, is one with a: both are bare.
func joins(a, b *Element, how joining) bool {
	if how == apart || len(a.Key) != 1 || len(b.Key) != 1 || !a.bare() || !b.bare() {
		return false
	}
	hi, lo := a.Key[0].Hi, b.Key[0].Lo
	return lo <= hi || how == touches && follows(lo, hi)
}

// follows reports whether b is a plus one.
func follows(b, a Bits) bool {
	if len(a) != len(b) {
		return false
	}
	i := len(a) - 1
	for i >= 0 && a[i] == 0xff && b[i] == 0 {
		i--
	}
	return i >= 0 && a[i] != 0xff && b[i] == a[i]+1 && b[:i] == a[:i]
}

func (e *Element) bare() bool {
	return e.Comment == "" && e.Timeout == 0 && e.Verdict == Verdict{}
}

// compareKeys orders elements by their keys. Every element of a list goes
// through it with every apply.
func compareKeys(a, b []Range) int {
	for i := range min(len(a), len(b)) {
		if c := a[i].compare(b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func (r Range) compare(o Range) int {
	if c := strings.Compare(string(r.Lo), string(o.Lo)); c != 0 {
		return c
	}
	return strings.Compare(string(r.Hi), string(o.Hi))
}

// saysSame compares what was written of two elements beside their keys, not
// what was counted since.
func (e *Element) saysSame(o *Element) bool {
	return e.Comment == o.Comment && e.Timeout == o.Timeout && e.Verdict == o.Verdict
}
