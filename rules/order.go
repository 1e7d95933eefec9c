package rules

import (
	"cmp"
	"slices"
)

// hookOrder is where hooks lie on a packet's way.
var hookOrder = [...]Hook{Ingress, Prerouting, Input, Forward, Output, Postrouting, Egress}

// Compare orders base chains by where they hook in: by hook along the packet's
// way, then by place. [Table.PacketOrder] knows what comes first among equals.
func (b Base) Compare(o Base) int {
	return cmp.Or(cmp.Compare(slices.Index(hookOrder[:], b.Hook), slices.Index(hookOrder[:], o.Hook)), cmp.Compare(b.Place(), o.Place()))
}

// bases are the base chains as packets meet them.
func (t *Table) bases() (out []*Chain) {
	for _, h := range hookOrder {
		for _, s := range stations(h, []Ruleset{{Table: t}}) {
			for _, c := range s.chains {
				out = append(out, c.Chain)
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
