package rules

import "slices"

// DrainingChain is the chain of a table that captures nothing any more, and carries
// what was captured before to its end. No rule jumps to it.
const DrainingChain = "draining"

// IsDraining reports whether the table only carries on what was captured before.
func (t *Table) IsDraining() bool {
	return t != nil && t.Chain(DrainingChain) != nil
}

// Draining is the table without what captures, and with what the packets of
// captured connections need: nat, which an empty base chain keeps on, connection
// tracking, which a rule keeps on that no packet meets, the marks that bring answers
// back, and the conntrack zones of TCP. What captured them is told by the rules of
// [DrainingChain].
func (t *Table) Draining() *Table {
	d := &Table{Name: t.Name}
	kept := t.reachable(func(c *Chain) bool { return c.Base != nil && c.Base.Type != NATType })
	for _, c := range t.Chains {
		switch {
		case c.Base != nil && c.Base.Type == NATType:
			d.Chains = append(d.Chains, &Chain{Name: c.Name, Base: c.Base})
		case kept[c.Name]:
			carries := *c
			carries.Rules = slices.DeleteFunc(slices.Clone(c.Rules), Rule.startsSomething)
			d.Chains = append(d.Chains, &carries)
		}
	}
	d.Chains = append(d.Chains, t.drainingChain())
	for _, s := range t.Sets {
		if d.uses(s.Name) {
			d.Sets = append(d.Sets, s)
		}
	}
	return d
}

// drainingChain has a rule of connection tracking, and one for each place to which
// packets were taken.
func (t *Table) drainingChain() *Chain {
	c := &Chain{Name: DrainingChain}
	c.Add("connections stay known to their end", CTStates.AnyOf(CTEstablished), Counter{}, Return())
	said := map[string]bool{}
	for _, old := range t.Chains {
		for _, r := range old.Rules {
			for _, n := range r.Nodes {
				var to Node
				switch n := n.(type) {
				case Redirect:
					to = n
				case TProxy:
					to = TProxy{Port: n.Port, Addr: n.Addr, Family: n.Family}
				default:
					continue
				}
				rule := Rule{"what was taken here goes on to its end", []Node{L4Proto.Is(TCP), to}}
				if key := rule.key(); !said[key] {
					said[key] = true
					c.Rules = append(c.Rules, rule)
				}
			}
		}
	}
	return c
}

// startsSomething reports whether a rule takes or stops packets of connections that
// are new, or keeps datagrams apart, which have no end to wait for.
func (r Rule) startsSomething() bool {
	zone, datagrams := false, false
	for _, n := range r.Nodes {
		switch n := n.(type) {
		case TProxy, Redirect, SNAT, NoTrack:
			return true
		case Verdict:
			if n.Kind == DropKind {
				return true
			}
		case Assign:
			zone = zone || n.To == Selector(CTZone) || n.To == Selector(CTOriginalZone)
		case Match:
			datagrams = datagrams || n.isExactly(Selector(L4Proto), RangeOf(UDP).Lo) ||
				slices.ContainsFunc(n.Key, func(s Selector) bool { return s.Proto() == UDP })
		}
	}
	return zone && datagrams
}

// reachable are the names of the chains that packets of some base chains come to.
func (t *Table) reachable(from func(*Chain) bool) map[string]bool {
	reached := map[string]bool{}
	var visit func(*Chain)
	visit = func(c *Chain) {
		if c == nil || reached[c.Name] {
			return
		}
		reached[c.Name] = true
		for _, r := range c.Rules {
			for _, target := range t.Targets(r) {
				visit(t.Chain(target))
			}
		}
	}
	for _, c := range t.Chains {
		if from(c) {
			visit(c)
		}
	}
	return reached
}

// uses reports whether a rule looks a set up.
func (t *Table) uses(set string) bool {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, n := range r.Nodes {
				switch n := n.(type) {
				case Match:
					if n.Set == set {
						return true
					}
				case VMap:
					if n.Map == set {
						return true
					}
				}
			}
		}
	}
	return false
}
