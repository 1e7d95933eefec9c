// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
)

// AddPrefixSets declares what is not empty of an IPv4 and an IPv6 set with the
// prefixes, under name and the family's name, for [Saddr] and [Daddr]. A rule that
// looks them up is expanded with the table:
//
//	private := t.AddPrefixSets("private", prefixes...)
//	local := rules.Rule{Reason: "stays", Nodes: []rules.Node{rules.Daddr.InSet(private), rules.Return()}}
//	chain.Rules = append(chain.Rules, t.Expand(local, rules.IPv4, rules.IPv6)...)
func (t *Table) AddPrefixSets(name string, prefixes ...netip.Prefix) SetOf[netip.Prefix] {
	if !slices.IsSortedFunc(prefixes, netip.Prefix.Compare) { // sorted here, for later elements are larger
		prefixes = slices.SortedFunc(slices.Values(prefixes), netip.Prefix.Compare)
	}
	var v4, v6 []Range
	for _, p := range prefixes {
		if p.Addr().Is4() {
			v4 = append(v4, RangeOf(p))
		} else {
			v6 = append(v6, RangeOf(p))
		}
	}
	if len(v4) > 0 {
		IPDaddr.AddSet(t, IPv4.SetName(name), v4...)
	}
	if len(v6) > 0 {
		IP6Daddr.AddSet(t, IPv6.SetName(name), v6...)
	}
	return SetOf[netip.Prefix]{name}
}

// SetName is the name of one family's part of a set for [Saddr] and [Daddr].
func (f Family) SetName(name string) string { return name + "_" + f.String() }

// Expand writes a rule that matches [Saddr] or [Daddr] once for each of the
// families; any other rule stays as it is.
//
// A list that holds no prefix of a family matches nothing of that family, so
// the rule is left out there; negated, it matches everything of the family,
// so the rule stands there without it.
func (t *Table) Expand(r Rule, families ...Family) []Rule {
	if !r.mixed() {
		return []Rule{r}
	}
	var out []Rule
	for _, f := range families {
		if one, ok := t.forFamily(r, f); ok {
			out = append(out, one)
		}
	}
	return out
}

func (r Rule) mixed() bool {
	for _, n := range r.Nodes {
		if m, ok := n.(Match); ok && len(m.Key) == 1 && ofFamily(m.Key[0], IPv4) != m.Key[0] {
			return true
		}
	}
	return false
}

func (t *Table) forFamily(r Rule, f Family) (Rule, bool) {
	one := Rule{Reason: r.Reason}
	reads := false
	for _, n := range r.Nodes {
		m, ok := n.(Match)
		if !ok || len(m.Key) != 1 || ofFamily(m.Key[0], f) == m.Key[0] {
			one.Nodes = append(one.Nodes, n)
			continue
		}
		m, holds := t.matchForFamily(m, f)
		switch {
		case holds:
			one.Nodes = append(one.Nodes, m)
			reads = true
		case !m.Negated:
			return Rule{}, false
		}
	}
	if !reads {
		one.Nodes = append([]Node{NFProto.Is(f)}, one.Nodes...)
	}
	return one, true
}

// matchForFamily is the part of the match that concerns one family; holds is false
// where no part does.
func (t *Table) matchForFamily(m Match, f Family) (of Match, holds bool) {
	of = Match{Key: []Selector{ofFamily(m.Key[0], f)}, Mask: m.Mask, Negated: m.Negated}
	if m.Set != "" {
		of.Set = f.SetName(m.Set)
		return of, t.Set(of.Set) != nil
	}
	for _, e := range m.Elements {
		if len(e.Key[0].Lo) == of.Key[0].Type().Len() {
			of.Elements = append(of.Elements, e)
		}
	}
	return of, len(of.Elements) > 0
}

func ofFamily(s Selector, f Family) Selector {
	switch {
	case s == Selector(Saddr) && f == IPv4:
		return Selector(IPSaddr)
	case s == Selector(Saddr):
		return Selector(IP6Saddr)
	case s == Selector(Daddr) && f == IPv4:
		return Selector(IPDaddr)
	case s == Selector(Daddr):
		return Selector(IP6Daddr)
	}
	return s
}
