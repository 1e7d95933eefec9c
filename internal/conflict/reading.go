// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// readings are the table as the model knows it; where rules hold opaque nodes it is read
// twice: without those rules, and with them as if what is not known matched.
func readings(t sim.Table) []sim.Table {
	if !hasOpaque(t.Table) {
		return []sim.Table{t}
	}
	return []sim.Table{
		{Table: rewritten(t.Table, func(_ *rules.Chain, r rules.Rule) (rules.Rule, bool) {
			return r, !slices.ContainsFunc(r.Nodes, isOpaque)
		}), Family: t.Family},
		{Table: rewritten(t.Table, matching(t.Table)), Family: t.Family},
	}
}

func hasOpaque(t *rules.Table) bool {
	return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		return slices.ContainsFunc(c.Rules, func(r rules.Rule) bool { return slices.ContainsFunc(r.Nodes, isOpaque) })
	})
}

func isOpaque(n rules.Node) bool {
	_, is := n.(rules.Opaque)
	return is
}

// rewritten is the table with each rule as f gives it, or without it.
func rewritten(t *rules.Table, f func(*rules.Chain, rules.Rule) (rules.Rule, bool)) *rules.Table {
	out := *t
	out.Chains = nil
	for _, c := range t.Chains {
		d := *c
		d.Rules = nil
		for _, r := range c.Rules {
			q, keep := f(c, r)
			if !keep {
				q = rules.Rule{Reason: r.Reason, Nodes: []rules.Node{rules.Counter{}}} // rules keep their numbers
			}
			d.Rules = append(d.Rules, q)
		}
		out.Chains = append(out.Chains, &d)
	}
	return &out
}

// matching has opaque matches hold, and opaque statements end the packet where they send
// it elsewhere or reject it.
func matching(t *rules.Table) func(*rules.Chain, rules.Rule) (rules.Rule, bool) {
	early := earlyChains(t)
	return func(c *rules.Chain, r rules.Rule) (rules.Rule, bool) {
		var nodes []rules.Node
		for _, n := range r.Nodes {
			o, is := n.(rules.Opaque)
			switch {
			case !is:
				nodes = append(nodes, n)
			case dropping(o.Name) || sending(o.Name) && early[c.Name]:
				nodes = append(nodes, rules.Drop())
			}
		}
		return rules.Rule{Reason: r.Reason, Nodes: nodes}, true
	}
}

// opaqueOf is the name of what a rule holds that decides and the model does not know.
func opaqueOf(t *rules.Table, chain string, rule int) string {
	c := t.Chain(chain)
	if c == nil || rule < 1 || rule > len(c.Rules) {
		return ""
	}
	for _, n := range c.Rules[rule-1].Nodes {
		if o, is := n.(rules.Opaque); is && (dropping(o.Name) || sending(o.Name)) {
			return o.Name
		}
	}
	return ""
}

// dropping reports whether expressions of those names reject a packet, or may lose it.
func dropping(names string) bool {
	return holdsWord(names, "reject", "queue", "REJECT", "DROP", "NFQUEUE", "synproxy", "SYNPROXY", "fwd")
}

// sending reports whether expressions of those names send a packet elsewhere.
func sending(names string) bool {
	return holdsWord(names, "nat", "redir", "tproxy", "DNAT", "REDIRECT", "TPROXY", "NETMAP")
}

func holdsWord(names string, words ...string) bool {
	return slices.ContainsFunc(strings.Fields(names), func(n string) bool { return slices.Contains(words, n) })
}

// earlyChains are those that packets meet in prerouting or output, where nat changes
// destinations.
func earlyChains(t *rules.Table) map[string]bool {
	early := map[string]bool{}
	var visit func(c *rules.Chain)
	visit = func(c *rules.Chain) {
		if c == nil || early[c.Name] {
			return
		}
		early[c.Name] = true
		for _, r := range c.Rules {
			for _, name := range t.Targets(r) {
				visit(t.Chain(name))
			}
		}
	}
	for _, c := range t.Chains {
		if c.Base != nil && (c.Base.Hook == rules.Prerouting || c.Base.Hook == rules.Output) {
			visit(c)
		}
	}
	return early
}
