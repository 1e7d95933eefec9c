// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"slices"
)

func (r Rule) normal() Rule {
	var so implied
	r.Nodes = mapped(r.Nodes, func(n Node) Node {
		so.read(n.needs().selectors)
		n = normalNode(n, so)
		so.pass(n)
		return n
	})
	r.Nodes = withoutImplied(r.Nodes)
	return r
}

// normalNode is the node in a rule of which so much is settled.
func normalNode(n Node, so implied) Node {
	switch n := n.(type) {
	case Match:
		n.Key = mapped(n.Key, so.of)
		n.Elements = withoutNameRanges(n.Elements, n.Types())
		n.Elements = normalElements(n.Elements, joiningOf(n.Types(), slices.ContainsFunc(n.Elements, hasRange)))
		return n.withoutMask()
	case VMap:
		n.Key = mapped(n.Key, so.of)
		n.Elements = normalElements(withoutNameRanges(n.Elements, n.Types()), apart)
		return n
	case Dynset:
		n.Key = mapped(n.Key, so.of)
		return n
	case TProxy:
		n.Family = cmp.Or(n.Family, so.family) // nft wants it said where it is settled
		return n
	}
	return n
}

// withoutMask says a mask of all ones by leaving it out, and one of an address's
// first bits as a prefix.
func (m Match) withoutMask() Match {
	if m.Mask == "" || len(m.Key) != 1 || len(m.Mask) != m.Key[0].Type().Len() {
		return m
	}
	if m.Mask == ones(len(m.Mask)) {
		m.Mask = ""
		return m
	}
	typ := m.Key[0].Type()
	v, one := m.single()
	if !one || !v.under(m.Mask) || typ != ipv4Addr && typ != ipv6Addr {
		return m
	}
	hi := []byte(v)
	for i := range hi {
		hi[i] |= ^m.Mask[i]
	}
	r := Range{v, Bits(hi)}
	if _, ok := r.PrefixBits(); ok {
		m.Mask, m.Elements = "", []Element{{Key: []Range{r}}}
	}
	return m
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
		if m, ok := n.(Match); ok && (isImplied(m, nodes[:i]) || isImplied(m, leadingMatches(nodes[i+1:]))) {
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
		case VMap, Dynset:
			return nodes[:i+1]
		default:
			return nodes[:i]
		}
	}
	return nodes
}

func isImplied(m Match, by []Node) bool {
	for _, n := range by {
		for _, s := range n.needs().selectors {
			if p := s.Proto(); p != 0 && m.isExactly(Selector(L4Proto), RangeOf(p).Lo) {
				return true
			}
			if f := s.Family(); f != 0 && m.isExactly(Selector(NFProto), RangeOf(f).Lo) {
				return true
			}
		}
	}
	return false
}
