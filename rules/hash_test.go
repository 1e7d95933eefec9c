// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
	"testing"
)

// variant is a state of every kind of part, which edit changes.
func variant(edit func(*State)) State {
	nat := &Chain{Name: "nat", Base: &Base{Type: NATType, Hook: Output, Priority: -100}, Rules: []Rule{
		{"redirected", []Node{TCPDport.InSet(SetOf[Port]{"ports"}), Counter{}, RedirectTo(15001)}},
		{"the rest", []Node{Jump("rest")}},
	}}
	s := State{
		Table: &Table{Name: "t", Chains: []*Chain{nat, {Name: "rest", Rules: []Rule{rule(Return())}}}, Sets: []*Set{
			{Name: "ports", Key: []DataType{inetService}, Interval: true, Elements: elementsOf(ports([2]Port{80, 80}, [2]Port{443, 443}))},
			{Name: "live", Key: []DataType{markType}, Live: true},
		}},
		PolicyRules: []PolicyRule{{IPv4, 100, 1, 1, 7, "", 0}},
		Routes:      []Route{{IPv4, 7, prefix("0.0.0.0/0"), ""}},
		Addresses:   []netip.Prefix{prefix("10.0.0.1/32")},
	}
	edit(&s)
	return s
}

func TestHashIsEqualForWhatIsEqual(t *testing.T) {
	set := func(edit func(*Set)) func(*State) { return func(s *State) { edit(s.Table.Sets[0]) } }
	chain := func(edit func(*Chain)) func(*State) { return func(s *State) { edit(s.Table.Chains[0]) } }
	variants := []struct {
		why  string
		same bool // as the first
		part string
		edit func(*State)
	}{
		{"as it is", true, "", func(*State) {}},
		{"elements in another order", true, "", set(func(s *Set) { slices.Reverse(s.Elements) })},
		{"sets in another order", true, "", func(s *State) { slices.Reverse(s.Table.Sets) }},
		{"another count", true, "", chain(func(c *Chain) { c.Rules[0].Nodes[1] = Counter{1, 60} })},
		{"a live element", true, "", func(s *State) { s.Table.Sets[1].Elements = []Element{{Key: []Range{RangeOf(Mark(1))}}} }},
		{"a sysctl", true, "", func(s *State) { s.Sysctls = []Sysctl{{"a", "b", "c"}} }},
		{"an element more", false, "set ports", set(func(s *Set) { s.Elements = s.Elements[:1] })},
		{"an element's comment", false, "set ports", set(func(s *Set) { s.Elements[0].Comment = "web" })},
		{"a set's flag", false, "set ports", set(func(s *Set) { s.Counters = true })},
		{"a rule deleted", false, "chain nat", chain(func(c *Chain) { c.Rules = c.Rules[1:] })},
		{"rules in another order", false, "chain nat", chain(func(c *Chain) { slices.Reverse(c.Rules) })},
		{"another reason", false, "chain nat", chain(func(c *Chain) { c.Rules[0].Reason = "sent on" })},
		{"no counter", false, "chain nat", chain(func(c *Chain) { c.Rules[0].Nodes = slices.Delete(c.Rules[0].Nodes, 1, 2) })},
		{"another priority", false, "chain nat", chain(func(c *Chain) { c.Base.Priority++ })},
		{"another policy", false, "chain nat", chain(func(c *Chain) { c.Base.Drop = true })},
		{"another hook", false, "chain nat", chain(func(c *Chain) { c.Base.Hook = Prerouting })},
		{"an unknown node", false, "chain nat", chain(func(c *Chain) { c.Rules[1].Nodes[0] = Opaque{"x", "a"} })},
		{"an unknown node of the same text", false, "chain nat", chain(func(c *Chain) { c.Rules[1].Nodes[0] = Opaque{"x", "b"} })},
		{"another table", false, "", func(s *State) { s.Table.Name = "u" }},
		{"no table", false, "", func(s *State) { s.Table = nil }},
		{"no policy rule", false, "", func(s *State) { s.PolicyRules = nil }},
		{"another route", false, "", func(s *State) { s.Routes[0].Table = 8 }},
		{"no address", false, "", func(s *State) { s.Addresses = nil }},
	}
	first := variant(variants[0].edit)
	_, parts := first.Normal().Digest()
	for _, a := range variants {
		sa := variant(a.edit)
		if first.Equal(sa) != a.same {
			t.Errorf("%s: equal is %v: %v", a.why, !a.same, first.Compare(sa))
		}
		for _, b := range variants {
			sb := variant(b.edit)
			if sa.Equal(sb) != (sa.Hash() == sb.Hash()) {
				t.Errorf("%s, %s: equal is %v, but the hashes say otherwise", a.why, b.why, sa.Equal(sb))
			}
		}
		if a.part == "" {
			continue
		}
		_, others := sa.Normal().Digest()
		for i, p := range parts {
			if (p != others[i]) != (p.Name == a.part) {
				t.Errorf("%s: %s became %s", a.why, p, others[i])
			}
		}
	}
}
