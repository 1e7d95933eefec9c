// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Check reports everything about the state that a kernel would refuse, that nft
// could not load as text, or that could not be read back as it was written: one
// error for each problem, with its place, joined.
func (s State) Check() error { return s.check(false) }

// CheckNormal is [State.Check] for a state that is in normal form already.
func (s State) CheckNormal() error { return s.check(true) }

func (s State) check(normal bool) error {
	c := &checker{normal: normal, reported: map[string]bool{}}
	if s.Table != nil {
		c.table(s.Table)
	}
	c.routing(s)
	if s.Untracked && s.Table != nil {
		c.untracked(s.Table)
	}
	return errors.Join(c.problems...)
}

type checker struct {
	normal   bool // what is checked
	table_   *Table
	where    string
	problems []error
	reported map[string]bool // chains are checked once for each base that reaches them

	base    *Base          // of the chain that reaches the rule under check
	walked  map[string]int // how deep below it each chain was met
	implied implied        // by the rule's nodes so far

	handedOver bool // by a tproxy of the rule
}

func (c *checker) problem(format string, args ...any) {
	text := c.where + ": " + fmt.Sprintf(format, args...)
	if !c.reported[text] {
		c.reported[text] = true
		c.problems = append(c.problems, errors.New(text))
	}
}

func (c *checker) table(t *Table) {
	c.table_ = t
	c.where = "table"
	c.name("table", t.Name, maxTableName)
	if t.Dormant {
		c.problem("inet %s is dormant: no packet would meet its chains", t.Name)
	}
	for _, o := range t.Others {
		c.problem("inet %s holds %s, which the model does not know", t.Name, o)
	}
	for _, s := range t.Sets {
		c.where = s.title()
		c.set(s)
		if t.Set(s.Name) != s {
			c.problem("declared twice")
		}
	}
	for _, chain := range t.Chains {
		c.where = chain.title()
		c.name("chain", chain.Name, maxName)
		if t.Chain(chain.Name) != chain {
			c.problem("declared twice")
		}
		if chain.Others != "" {
			c.problem("has %s, which the model does not know", chain.Others)
		}
		if chain.Base != nil {
			c.hook(chain.Base)
		}
	}
	reached := map[string]int{}
	for _, chain := range t.Chains {
		if chain.Base != nil {
			c.base, c.walked = chain.Base, map[string]int{}
			c.chain(chain, nil)
			maps.Copy(reached, c.walked)
		}
	}
	c.base, c.walked = nil, reached
	for _, chain := range t.Chains {
		c.chain(chain, nil) // those that no base chain reaches
	}
}

func (c *checker) name(what, name string, most int) {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
	strange := strings.ContainsFunc(name, func(r rune) bool {
		return !letter(r) && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	})
	switch {
	case name == "" || strange || !letter(rune(name[0])):
		c.problem("%q is not a name for a %s (want a letter, then letters, digits, '_', '-' or '.')", name, what)
	case len(name) > most:
		c.problem("the name of a %s has at most %d bytes", what, most)
	case slices.Contains(keywords, name):
		c.problem("%q is a keyword of nft, not a name for a %s", name, what)
	}
}

func (c *checker) comment(text string) {
	if len(text) > MaxComment {
		c.problem("%q is %d bytes long (at most %d)", text, len(text), MaxComment)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r == '"' || r < ' ' || r == 0x7f }) {
		c.problem("%q holds a double quote or a control character", text)
	}
}

func (c *checker) hook(b *Base) {
	hooks := map[ChainType][]Hook{
		FilterType: {Prerouting, Input, Forward, Output, Postrouting, Ingress},
		NATType:    {Prerouting, Input, Output, Postrouting},
		RouteType:  {Output},
	}[b.Type]
	if !slices.Contains(hooks, b.Hook) {
		c.problem("no chain of type %s hooks into %s", b.Type, b.Hook)
	}
	if b.Type == NATType && b.Priority <= conntrackPrio {
		c.problem("a nat chain needs a priority over %d (that of conntrack)", conntrackPrio)
	}
	if (b.Hook == Ingress) != (len(b.Devices) > 0) {
		c.problem("devices belong to ingress, and ingress to devices")
	}
	for _, d := range b.Devices {
		if strings.HasSuffix(d, "*") || len(d) > MaxIfName {
			c.problem("%q is not a device", d)
			continue
		}
		c.ifName(nameSpan(d))
	}
}

// chain checks the rules of a chain as packets of the current base chain meet
// them, and follows its jumps.
func (c *checker) chain(chain *Chain, path []string) {
	if i := slices.Index(path, chain.Name); i >= 0 {
		c.circle(path[i:])
		return
	}
	if path = append(path, chain.Name); len(path) > maxChainDepth {
		c.problem("jumps deeper than %d chains", maxChainDepth)
		return
	}
	if c.walked[chain.Name] >= len(path) {
		return // from here on there is nothing new
	}
	c.walked[chain.Name] = len(path)
	for i, r := range chain.Rules {
		c.where = fmt.Sprintf("%s rule %d %q", chain.title(), i+1, r.Reason)
		c.rule(r)
		for _, target := range c.table_.Targets(r) {
			if next := c.table_.Chain(target); next != nil && next.Base == nil {
				where := c.where
				c.chain(next, slices.Clone(path))
				c.where = where
			}
		}
	}
}

// circle reports chains that jump to each other, once wherever they were met.
func (c *checker) circle(names []string) {
	first := slices.Index(names, slices.Min(names))
	names = slices.Concat(names[first:], names[:first+1])
	c.where = "chain " + names[0]
	c.problem("jumps in a circle: %s", strings.Join(names, " -> "))
}

// target refuses a jump to where no rule can jump.
func (c *checker) target(v Verdict) {
	if v.Chain == "" {
		return
	}
	if next := c.table_.Chain(v.Chain); next == nil {
		c.problem("jumps to chain %s, which does not exist", v.Chain)
	} else if next.Base != nil {
		c.problem("%s is a base chain: no rule can jump there", v.Chain)
	}
}

// untracked refuses what switches connection tracking on, even where no packet comes by,
// and what does nothing without it.
func (c *checker) untracked(t *Table) {
	for _, chain := range t.Chains {
		if c.where = chain.title(); chain.Base != nil && chain.Base.Type == NATType {
			c.problem("is of type nat, and no connection may be tracked")
		}
		for i, r := range chain.Rules {
			for _, n := range r.Nodes {
				if len(n.needs().tracked) > 0 {
					c.where = fmt.Sprintf("%s rule %d %q", chain.title(), i+1, r.Reason)
					c.problem("%q switches connection tracking on, and no connection may be tracked", n.text(nil))
				}
			}
		}
	}
}
