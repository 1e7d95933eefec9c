// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"math"
	"slices"
)

// hookOrder is where hooks lie on a packet's way.
var hookOrder = [...]Hook{Ingress, Prerouting, Input, Forward, Output, Postrouting, Egress}

// Compare orders base chains by where they hook in: by hook along the packet's
// way, then by place. [Table.PacketOrder] knows what comes first among equals.
func (b Base) Compare(o Base) int {
	return cmp.Or(cmp.Compare(slices.Index(hookOrder[:], b.Hook), slices.Index(hookOrder[:], o.Hook)), cmp.Compare(b.Place(), o.Place()))
}

// natPriorities are where nat works, whatever its chains say for themselves:
// their priorities only put them in order (nf_nat_inet_ops of
// net/netfilter/nf_nat_proto.c).
var natPriorities = map[Hook]int32{
	Prerouting: PriorityDstNAT, Output: PriorityDstNAT, Input: PrioritySrcNAT, Postrouting: PrioritySrcNAT,
}

// Place is where in the hook the chain works, as a priority.
func (b Base) Place() int32 {
	if b.Type == NATType {
		return natPriorities[b.Hook]
	}
	return b.Priority
}

// Ties reports whether only the order in which the chains were made says which of
// them packets meet first.
func (b *Base) Ties(with *Base) bool {
	both := b.Type == NATType && with.Type == NATType
	return b.Hook == with.Hook && b.Place() == with.Place() && (!both || b.Priority == with.Priority)
}

// RunsBefore reports whether packets meet the chain before another one of the same hook,
// where that does not hang on the order in which they were made; see [Base.Ties].
func (b *Base) RunsBefore(o *Base) bool {
	if b.Type == NATType && o.Type == NATType {
		return b.Priority < o.Priority
	}
	return b.Place() < o.Place()
}

// Station is what packets meet at a hook: a base chain of a table, or one of the
// kernel's own, which have no chain.
type Station struct {
	Table  *Table
	Chain  *Chain
	NAT    bool // the kernel changes addresses, as the nat chains just before decided
	Tracks bool // the kernel finds the packet's connection
}

// Stations are what packets meet at a hook, in order, where tables were made in the
// order given, and the chains of each in theirs. With the first nat chain nat is at
// every hook where it works. Connection tracking is among them whether some rule needs
// it or not, see [Table.Tracks].
func (h Hook) Stations(tables ...*Table) []Station {
	type place struct {
		priority int32
		order    int // among equals the one that was registered last comes first
		stations []Station
	}
	var all []place
	nat := place{priority: natPriorities[h]}
	hasNAT, order := false, 0
	for _, t := range tables {
		for _, c := range t.Chains {
			if c.Base == nil {
				continue
			}
			order++
			if c.Base.Type == NATType && !hasNAT {
				hasNAT, nat.order = true, order // all of nat is registered with its first chain
			}
			switch {
			case c.Base.Hook != h:
			case c.Base.Type == NATType:
				nat.stations = append(nat.stations, Station{Table: t, Chain: c})
			default:
				all = append(all, place{c.Base.Priority, order, []Station{{Table: t, Chain: c}}})
			}
		}
	}
	slices.Reverse(nat.stations)
	slices.SortStableFunc(nat.stations, func(a, b Station) int { return cmp.Compare(a.Chain.Base.Priority, b.Chain.Base.Priority) })
	if _, here := natPriorities[h]; here && hasNAT {
		nat.stations = append(nat.stations, Station{NAT: true})
		all = append(all, nat)
	}
	if h == Prerouting || h == Output {
		// It is registered with the first rule that needs it, after the chains.
		all = append(all, place{conntrackPrio, math.MaxInt, []Station{{Tracks: true}}})
	}
	slices.SortStableFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), -cmp.Compare(a.order, b.order))
	})
	var out []Station
	for _, p := range all {
		out = append(out, p.stations...)
	}
	return out
}

// Tracks reports whether a rule of the table needs connection tracking for a family.
// The kernel switches it on with such a rule, even in a dormant table
// (nf_ct_netns_get), but neither with a nat chain nor with notrack: without it no nat
// chain is ever called.
func (t *Table) Tracks(f Family) bool {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, n := range r.Nodes {
				if slices.Contains(n.needs().tracked, f) {
					return true
				}
			}
		}
	}
	return false
}

// bases are the base chains as packets meet them.
func (t *Table) bases() (out []*Chain) {
	for _, h := range hookOrder {
		for _, s := range h.Stations(t) {
			if s.Chain != nil {
				out = append(out, s.Chain)
			}
		}
	}
	return out
}

// PacketOrder are the chains as packets meet them: base chains along the way, each
// followed by those that its rules lead to and that were not met before. Chains
// that no rule leads to come last.
func (t *Table) PacketOrder() []*Chain {
	o := order{table: t, chains: map[string]*Chain{}, met: map[*Chain]bool{}}
	for _, c := range t.Chains {
		o.chains[c.Name] = c
	}
	for _, c := range append(t.bases(), t.Chains...) {
		o.visit(c)
	}
	return o.out
}

type order struct {
	table  *Table
	chains map[string]*Chain
	met    map[*Chain]bool
	out    []*Chain
}

func (o *order) visit(c *Chain) {
	if c == nil || o.met[c] {
		return
	}
	o.met[c] = true
	o.out = append(o.out, c)
	for _, r := range c.Rules {
		for _, target := range o.table.Targets(r) {
			o.visit(o.chains[target])
		}
	}
}

// Targets are the names of the chains that a rule may jump or go to, each once, by
// the verdict maps that it looks up too.
func (t *Table) Targets(r Rule) []string {
	var names []string
	met := map[string]bool{"": true} // maps are long
	add := func(v Verdict) {
		if !met[v.Chain] {
			met[v.Chain] = true
			names = append(names, v.Chain)
		}
	}
	for _, n := range r.Nodes {
		switch n := n.(type) {
		case Verdict:
			add(n)
		case VMap:
			elements := n.Elements
			if s := t.Set(n.Map); s != nil {
				elements = s.Elements
			}
			for _, e := range elements {
				add(e.Verdict)
			}
		}
	}
	return names
}

// Captures are the redirect and tproxy statements of the table's rules, in order, each
// once: where packets are taken to. A nil table has none.
func (t *Table) Captures() (out []Node) {
	if t == nil {
		return nil
	}
	met := map[string]bool{}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, n := range r.Nodes {
				switch n.(type) {
				case Redirect, TProxy:
					if text := n.text(nil); !met[text] {
						met[text] = true
						out = append(out, n)
					}
				}
			}
		}
	}
	return out
}
