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
		if kind, _ := s.Kind(); kind.fib() && s.Type() == ifNameType {
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

func (c *checker) selector(s Selector) {
	kind, argument := s.Kind()
	switch {
	case s == Selector(Saddr) || s == Selector(Daddr):
		c.problem("%q is to be expanded by family first", s)
	case s.Type() == noType:
		c.problem("selector %d reads nothing", s)
	case kind == Selector(socketCgroup) && (argument == 0 || argument > maxCgroupLevel):
		c.problem("socket cgroupv2 needs a level of 1 to %d", maxCgroupLevel)
	case kind.fib():
		c.fibFlags(s, FibFlag(argument))
	case kind == Selector(thRaw) || kind == Selector(ihRaw):
		c.raw(s)
	case kind != Selector(socketCgroup) && argument != 0:
		c.problem("%s takes no argument", s)
	}
}

// raw refuses bytes that nft or the kernel does not read, and those that nft lists by the
// name of their field.
func (c *checker) raw(s Selector) {
	offset, length, _ := s.Raw()
	if length > maxRawLength || offset > maxRawOffset {
		c.problem("%s reads beyond the first %d bytes, or more than %d", s, maxRawOffset+1, maxRawLength)
	}
	if kind, _ := s.Kind(); kind != Selector(thRaw) {
		return
	}
	ports := length == 2 && (offset == 0 || offset == 2)
	flags := offset == 13 && length == 1 && c.implied.proto == TCP
	if ports || flags {
		c.problem("%s is a field that has a name", s)
	}
}

// fibFlags refuses what nft_fib_init does.
func (c *checker) fibFlags(s Selector, by FibFlag) {
	switch {
	case by&^(FibMark|FibIIf|FibOIf) != 0:
		c.problem("%s takes mark, iif or oif into account, and nothing else", s)
	case by&FibIIf != 0 && by&FibOIf != 0:
		c.problem("%s takes iif or oif into account, not both", s)
	case by&FibOIf != 0 && s.Type() != fibAddrType:
		c.problem("%s looks for an interface, and cannot take oif into account", s)
	}
}

// place refuses a selector where the kernel does: nft_socket_validate and
// nft_fib_validate.
func (c *checker) place(s Selector) {
	if c.base == nil {
		return
	}
	kind, argument := s.Kind()
	hooks := everyHook
	switch {
	case kind == Selector(socketCgroup) || kind == Selector(SocketTransparent) || kind == Selector(SocketMark):
		hooks = []Hook{Prerouting, Input, Output}
	case kind.fib():
		hooks = fibHooks(s.Type(), FibFlag(argument))
	}
	if !slices.Contains(hooks, c.base.Hook) {
		c.problem("%s works in %s, not in %s", s, joinHooks(hooks), c.base.Hook)
	}
}

var everyHook = []Hook{Prerouting, Input, Forward, Output, Postrouting, Ingress, Egress}

// fibHooks are those where nft_fib_validate takes a lookup: where the interfaces that
// it asks for are known.
func fibHooks(result DataType, by FibFlag) []Hook {
	switch {
	case by&FibIIf != 0:
		return []Hook{Prerouting, Input, Forward}
	case by&FibOIf != 0:
		return []Hook{Forward, Output, Postrouting}
	case result != fibAddrType:
		return []Hook{Prerouting} // input and forward since Linux 6.10
	}
	return []Hook{Prerouting, Input, Forward, Output, Postrouting}
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
