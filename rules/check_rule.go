// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"
)

// rule checks one rule where the current base chain reaches it.
func (c *checker) rule(r Rule) {
	c.comment(r.Reason)
	if len(r.Nodes) == 0 {
		c.problem("is empty")
	}
	c.implied, c.handedOver = implied{}, false
	cost := 0
	for i, n := range r.Nodes {
		needs := n.needs()
		reading := c.implied
		reading.read(needs.selectors)
		n = normalNode(n, reading)
		n.check(c)
		c.implied = reading
		c.implied.pass(n)
		if needs.terminal && i < len(r.Nodes)-1 {
			c.problem("nothing after %q is ever reached", n.text(nil))
		}
		cost += maxNodeCost + 2*len(needs.selectors)
	}
	if cost > maxExpressions {
		c.problem("holds %d matches and statements, more than fit into one rule", len(r.Nodes))
	}
}

// reached reports whether the rule stands where packets of such a base chain
// come; where no base chain reaches it, anything goes.
func (c *checker) reached(typ ChainType, hooks ...Hook) bool {
	return c.base == nil || c.base.Type == typ && slices.Contains(hooks, c.base.Hook)
}

// early reports whether the rule stands before conntrack.
func (c *checker) early() bool {
	return c.base == nil || c.base.Priority < conntrackPrio && (c.base.Hook == Prerouting || c.base.Hook == Output)
}

func (c *checker) lookup(key []Selector, name string, verdicts bool) {
	c.lookedUp(key)
	s := c.table_.Set(name)
	switch {
	case slices.ContainsFunc(key, ofEitherFamily): // the set is one of a pair
	case s == nil:
		c.problem("set %s does not exist", name)
	case s.Verdicts != verdicts:
		c.problem("%s is a %s", name, s.kind())
	case !slices.Equal(s.Key, typesOf(key)):
		c.problem("%s is keyed by %s, not by %s", name, joinTypes(s.Key), joinSelectors(key))
	}
}

// lookedUp refuses a name that fib finds, which nft takes for a string of any length.
func (c *checker) lookedUp(key []Selector) {
	for _, s := range key {
		if isFib(s) && s.Type() == ifNameType {
			c.problem("%s is compared with one name: nft looks it up in no set", s)
		}
	}
}

func (c *checker) keys(key []Selector) {
	if len(key) == 0 {
		c.problem("a match reads nothing")
	}
	so := c.implied
	for _, s := range key {
		c.selector(s)
		c.place(s)
		p, f := s.Proto(), s.Family()
		if p != 0 && so.proto != 0 && p != so.proto {
			c.problem("%s never holds for a packet of %s", s, symbol(protoNames, uint64(so.proto)))
		}
		if f != 0 && so.family != 0 && f != so.family {
			c.problem("%s never holds for a packet of %s", s, so.family)
		}
		if p != 0 && so.protoList || f != 0 && so.familyList {
			c.problem("nft does not take %s after a list of protocols or families (want a rule for each)", s)
		}
		so.read([]Selector{s})
	}
}

func joinHooks(hooks []Hook) string {
	words := mapped(hooks, Hook.String)
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

func (m Match) check(c *checker) {
	c.keys(m.Key)
	if len(m.Key) == 0 {
		return
	}
	c.mask(m)
	if m.Set != "" {
		if len(m.Elements) > 0 {
			c.problem("looks up %s and compares with values too", m.Set)
		}
		c.lookup(m.Key, m.Set, false)
		return
	}
	if len(m.Elements) == 0 {
		c.problem("%s is compared with nothing", joinSelectors(m.Key))
	}
	c.inline(m.Key, m.Elements, false)
	if v, one := m.single(); one && !m.Negated {
		c.contradiction(m.Key[0], v)
	}
}

// contradiction refuses a second protocol or family for one packet.
func (c *checker) contradiction(s Selector, v Bits) {
	if s == Selector(L4Proto) && c.implied.proto != 0 && Proto(v.Uint64()) != c.implied.proto ||
		s == Selector(NFProto) && c.implied.family != 0 && Family(v.Uint64()) != c.implied.family {
		c.problem("%s %s never holds after what the rule matched before", s, s.Type().Format(v))
	}
}

func (c *checker) mask(m Match) {
	if m.Mask == "" {
		return
	}
	typ := m.Key[0].Type()
	if len(m.Key) != 1 || !typ.masks() || len(m.Mask) != typ.Len() || m.Mask == zeros(len(m.Mask)) {
		c.problem("the mask of %s does not fit it", joinSelectors(m.Key))
		return
	}
	for _, e := range m.Elements {
		switch {
		case hasRange(e):
			c.problem("%s under a mask is compared with a range", m.Key[0])
		case len(e.Key) == 1 && !e.Key[0].Lo.under(m.Mask):
			c.problem("%s has bits outside of its mask %s", typ.FormatRange(e.Key[0]), typ.Format(m.Mask))
		}
	}
}

// inline checks the values that a rule itself holds.
func (c *checker) inline(key []Selector, elements []Element, verdicts bool) {
	types := typesOf(key)
	if len(key) > 1 {
		c.problem("%s wants a declared %s", joinSelectors(key), (&Set{Verdicts: verdicts}).kind())
	}
	if len(elements) > 1 || verdicts {
		c.lookedUp(key)
		for _, t := range types {
			c.settable(t)
		}
	}
	for i, e := range elements {
		c.element(&e, types, verdicts, true)
		if e.Comment != "" || e.Timeout != 0 {
			c.problem("has an element with a comment or a timeout, which want a declared set")
		}
		if i > 0 && len(types) == 1 && types[0] == ifNameType && len(e.Key) == 1 && len(elements[i-1].Key) == 1 && follows(e.Key[0].Lo, elements[i-1].Key[0].Hi) {
			c.problem("%s and the wildcard before it want a declared set: nft makes one range of them", ifNameType.FormatRange(e.Key[0]))
		}
	}
	c.mixedNames(elements, types)
	c.disjoint(elements)
}
