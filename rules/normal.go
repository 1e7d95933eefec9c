package rules

import (
	"cmp"
	"net/netip"
	"slices"
)

// Normal is the state with what does not matter put in order: elements sorted,
// overlapping and adjacent ranges merged, matches that another match implies
// left out, a mask of all ones dropped. States that say the same have equal
// normal forms. Live elements and what a dump counted stay as they are.
func (s State) Normal() State {
	n := s
	if s.Table != nil {
		t := *s.Table
		t.Sets = mapped(t.Sets, func(s *Set) *Set { c := s.normal(); return &c })
		t.Chains = mapped(t.Chains, func(c *Chain) *Chain {
			nc := *c
			nc.Rules = mapped(c.Rules, Rule.normal)
			return &nc
		})
		t.Others = slices.Sorted(slices.Values(t.Others))
		n.Table = &t
	}
	n.PolicyRules = sortedUnique(s.PolicyRules, func(a, b PolicyRule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Mark, b.Mark),
			cmp.Compare(a.Mask, b.Mask), cmp.Compare(a.Table, b.Table))
	})
	n.Routes = sortedUnique(s.Routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Table, b.Table), a.Dst.Compare(b.Dst))
	})
	for i := range n.Routes {
		n.Routes[i].Dst = n.Routes[i].Dst.Masked()
	}
	n.Addresses = slices.Clone(s.Addresses)
	slices.SortFunc(n.Addresses, func(a, b netip.Prefix) int { return a.Compare(b) })
	n.Addresses = slices.Compact(n.Addresses)
	return n
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

func (s Set) normal() Set {
	s.Elements = normalElements(s.Elements, s.Interval && !s.Verdicts && !s.Live)
	return s
}

// normalElements sorts elements; where merge is set, ranges that say no more
// than their keys are joined with their neighbours.
func normalElements(in []Element, merge bool) []Element {
	if isNormal(in, merge) {
		return in // lists are long, and normal more often than not
	}
	out := slices.Clone(in)
	if !slices.IsSortedFunc(out, compareElements) {
		slices.SortFunc(out, compareElements)
	}
	if !merge {
		return slices.CompactFunc(out, func(a, b Element) bool { return sameElement(a, b) })
	}
	kept := out[:0]
	for _, e := range out {
		if last := len(kept) - 1; last >= 0 && joins(kept[last], e) {
			r := kept[last].Key[0]
			kept[last].Key = []Range{{r.Lo, max(r.Hi, e.Key[0].Hi)}}
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// isNormal reports whether elements are sorted, and none is to be joined with
// the one before it.
func isNormal(in []Element, merge bool) bool {
	for i := 1; i < len(in); i++ {
		if compareElements(in[i-1], in[i]) >= 0 || merge && joins(in[i-1], in[i]) {
			return false
		}
	}
	return true
}

// joins reports whether b, which sorts after a, overlaps or follows a and both
// are bare.
func joins(a, b Element) bool {
	if len(a.Key) != 1 || len(b.Key) != 1 || !a.bare() || !b.bare() {
		return false
	}
	return b.Key[0].Lo <= a.Key[0].Hi || follows(b.Key[0].Lo, a.Key[0].Hi)
}

// follows reports whether b is a plus one.
func follows(b, a Bits) bool {
	i := len(a) - 1
	for ; i >= 0 && a[i] == 0xff && b[i] == 0; i-- {
	}
	return i >= 0 && b[i] == a[i]+1 && b[i] != 0 && b[:i] == a[:i]
}

func (e Element) bare() bool {
	return e.Comment == "" && e.Timeout == 0 && e.Verdict == Verdict{}
}

func compareElements(a, b Element) int {
	return slices.CompareFunc(a.Key, b.Key, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi))
	})
}

// sameElement compares what was written, not what was counted since.
func sameElement(a, b Element) bool {
	return slices.Equal(a.Key, b.Key) && a.Verdict == b.Verdict && a.Comment == b.Comment && a.Timeout == b.Timeout
}

func (r Rule) normal() Rule {
	r.Nodes = mapped(r.Nodes, normalNode)
	r.Nodes = withoutImplied(r.Nodes)
	return r
}

func normalNode(n Node) Node {
	switch n := n.(type) {
	case Match:
		if n.Set == "" {
			n.Elements = normalElements(n.Elements, slices.ContainsFunc(n.Elements, hasRange))
		}
		if len(n.Key) > 0 && n.Mask == ones(n.Key[0].Type().Len()) {
			n.Mask = ""
		}
		return n
	case VMap:
		n.Elements = normalElements(n.Elements, false)
		return n
	}
	return n
}

func hasRange(e Element) bool {
	return slices.ContainsFunc(e.Key, func(r Range) bool { return !r.Single() })
}

// withoutImplied leaves out protocol and family matches that a neighbour
// implies: one that came before, or one that follows with nothing but matches
// in between.
func withoutImplied(nodes []Node) []Node {
	var out []Node
	for i, n := range nodes {
		if m, ok := n.(Match); ok && (implied(m, nodes[:i]) || implied(m, leadingMatches(nodes[i+1:]))) {
			continue
		}
		out = append(out, n)
	}
	return out
}

func leadingMatches(nodes []Node) []Node {
	for i, n := range nodes {
		switch n.(type) {
		case Match:
		case VMap:
			return nodes[:i+1]
		default:
			return nodes[:i]
		}
	}
	return nodes
}

func implied(m Match, by []Node) bool {
	for _, n := range by {
		for _, s := range n.needs().selectors {
			if p := s.Proto(); p != 0 && m.isExactly(Selector(L4Proto), Span(p).Lo) {
				return true
			}
			if f := s.Family(); f != 0 && m.isExactly(Selector(NFProto), Span(f).Lo) {
				return true
			}
		}
	}
	return false
}
