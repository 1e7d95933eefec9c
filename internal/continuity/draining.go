// SPDX-License-Identifier: Apache-2.0

package continuity

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// DrainingChain is the chain of a table that captures nothing any more, and carries
// what was captured before to its end. No rule jumps to it.
const DrainingChain = "draining"

// IsDraining reports whether the table only carries on what was captured before.
func IsDraining(t *rules.Table) bool {
	return t != nil && t.Chain(DrainingChain) != nil
}

// Draining is the table without what captures, and with what the packets of
// captured connections need: nat, which an empty base chain keeps on, connection
// tracking, which a rule keeps on that no packet meets, the marks that bring answers
// back, and the conntrack zones of TCP. What captured them is told by the rules of
// [DrainingChain].
func Draining(t *rules.Table) *rules.Table {
	d := &rules.Table{Name: t.Name}
	kept := reachable(t, func(c *rules.Chain) bool { return c.Base != nil && c.Base.Type != rules.NATType })
	for _, c := range t.Chains {
		switch {
		case c.Base != nil && c.Base.Type == rules.NATType:
			d.Chains = append(d.Chains, &rules.Chain{Name: c.Name, Base: c.Base})
		case kept[c.Name]:
			carries := *c
			carries.Rules = slices.DeleteFunc(slices.Clone(c.Rules), startsSomething)
			d.Chains = append(d.Chains, &carries)
		}
	}
	d.Chains = append(d.Chains, drainingChain(t))
	for _, s := range t.Sets {
		if looksUp(d, s.Name) {
			d.Sets = append(d.Sets, s)
		}
	}
	return d
}

// drainingChain has a rule of connection tracking, and one for each place to which
// packets were taken.
func drainingChain(t *rules.Table) *rules.Chain {
	c := &rules.Chain{Name: DrainingChain}
	c.Add("connections stay known to their end", rules.CTStates.AnyOf(rules.CTEstablished), rules.Counter{}, rules.Return())
	for _, to := range t.Captures() {
		c.Add("what was taken here goes on to its end", rules.L4Proto.Is(rules.TCP), to)
	}
	return c
}

// startsSomething reports whether a rule takes or stops packets of connections that
// are new, or keeps datagrams apart, which have no end to wait for.
func startsSomething(r rules.Rule) bool {
	zone, datagrams := false, false
	for _, n := range r.Nodes {
		switch n := n.(type) {
		case rules.TProxy, rules.Redirect, rules.SNAT, rules.DNAT, rules.NoTrack:
			return true
		case rules.Verdict:
			if n.Kind == rules.DropKind {
				return true
			}
		case rules.Assign:
			zone = zone || n.To == rules.CTZone.Selector() || n.To == rules.CTOriginalZone.Selector()
		case rules.Match:
			datagrams = datagrams || isUDP(n) || slices.ContainsFunc(n.Key, func(s rules.Selector) bool { return s.Proto() == rules.UDP })
		}
	}
	return zone && datagrams
}

// isUDP reports whether the match is `meta l4proto udp`.
func isUDP(m rules.Match) bool {
	alone := func(n rules.Node) rules.Rule { return rules.Rule{Nodes: []rules.Node{n}} }
	return alone(m).Equal(alone(rules.L4Proto.Is(rules.UDP)))
}

// reachable are the names of the chains that packets of some base chains come to.
func reachable(t *rules.Table, from func(*rules.Chain) bool) map[string]bool {
	reached := map[string]bool{}
	var visit func(*rules.Chain)
	visit = func(c *rules.Chain) {
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

// looksUp reports whether a rule of the table looks a set up.
func looksUp(t *rules.Table, set string) bool {
	return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		return slices.ContainsFunc(c.Rules, func(r rules.Rule) bool {
			return slices.ContainsFunc(r.Nodes, func(n rules.Node) bool {
				switch n := n.(type) {
				case rules.Match:
					return n.Set == set
				case rules.VMap:
					return n.Map == set
				}
				return false
			})
		})
	})
}
