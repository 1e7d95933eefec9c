// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"slices"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// unknownOrder is why a fate is not known that depends on the order of chains.
const unknownOrder = "two tables have chains of one priority, and nftables does not tell which was made last and so runs first"

// evaluateLive evaluates in every order in which the tables may have been made: of
// chains of one priority the one that was made last runs first, and the kernel does
// not always tell which of two tables' that is.
func evaluateLive(h sim.Host, tables []sim.Table, made func(a, b *rules.Table) nft.Order, obstacle string) evaluator {
	evaluators := map[rules.Family][]*sim.Evaluator{}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		for _, order := range orders(tables, f, made) {
			evaluators[f] = append(evaluators[f], sim.NewEvaluator(h, order...))
		}
	}
	return func(p sim.Packet) sim.Journey {
		all := evaluators[p.Family()]
		j := all[0].Evaluate(p, nil)
		why := obstacle
		if why == "" && len(all) == maxOrders {
			why = unknownOrder
		}
		for _, e := range all[1:] {
			if why != "" || j.Fate.Kind == sim.Unknown {
				break
			}
			switch other := e.Evaluate(p, nil); {
			case other.Fate.Kind == sim.Unknown:
				return other
			case other.Fate != j.Fate:
				why = unknownOrder
			}
		}
		if why != "" {
			j.Fate = sim.Fate{Kind: sim.Unknown, Src: j.Fate.Src, Dst: j.Fate.Dst, Why: why}
		}
		return j
	}
}

// maxOrders of the orders of tables are tried; where there are as many, some were
// not.
const maxOrders = 5 * 4 * 3 * 2

// orders are the orders in which the tables that see the family may have been made, as
// far as their chains and made tell, at most maxOrders of them.
func orders(tables []sim.Table, f rules.Family, made func(a, b *rules.Table) nft.Order) (out [][]sim.Table) {
	var single, tied []sim.Table
	for i, t := range tables {
		switch others := slices.Delete(slices.Clone(tables), i, i+1); {
		case t.Family != 0 && t.Family != f:
		case slices.ContainsFunc(others, func(o sim.Table) bool { return (o.Family == 0 || o.Family == f) && ties(t.Table, o.Table) }):
			tied = append(tied, t)
		default:
			single = append(single, t)
		}
	}
	inEveryOrder(tied, 0, func() bool {
		for i := range tied {
			if slices.ContainsFunc(tied[i+1:], func(later sim.Table) bool { return made(tied[i].Table, later.Table) == nft.After }) {
				return true // it was not so
			}
		}
		out = append(out, slices.Concat(single, tied))
		return len(out) < maxOrders
	})
	return out
}

// ties reports whether the tables have chains of which nothing but the order in
// which they were made says which comes first.
func ties(a, b *rules.Table) bool {
	return slices.ContainsFunc(a.Chains, func(c *rules.Chain) bool {
		return c.Base != nil && slices.ContainsFunc(b.Chains, func(d *rules.Chain) bool { return d.Base != nil && c.Base.Ties(d.Base) })
	})
}

// inEveryOrder visits every order of what stands from i on, until told to stop.
func inEveryOrder[T any](s []T, i int, visit func() bool) bool {
	if i >= len(s)-1 {
		return visit()
	}
	for k := i; k < len(s); k++ {
		s[i], s[k] = s[k], s[i]
		ok := inEveryOrder(s, i+1, visit)
		s[i], s[k] = s[k], s[i]
		if !ok {
			return false
		}
	}
	return true
}
