package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// explainLive says what becomes of packets by what a namespace holds now: every
// table on the hooks, its routing, addresses and sockets.
func explainLive(cc *cli.Context, asked []sim.Packet) error {
	if configured(cc) {
		return usageError{fmt.Errorf("--live asks of what the namespace holds, and takes no configuration")}
	}
	if cc.IsSet("address") {
		return usageError{fmt.Errorf("--live reads the namespace's addresses, and takes none by --address")}
	}
	if err := refuseEnvironment(cc); err != nil {
		return err
	}
	return inNamespace(cc, func(ctx context.Context, j *job) error {
		x, err := j.liveExplainer(ctx)
		if err != nil {
			return fmt.Errorf("explain --live: %w", err)
		}
		if err := x.comesByOurs(asked); err != nil {
			return usageError{err}
		}
		return x.explain(cc, asked)
	})
}

// comesByOurs refuses packets that come by interfaces which are not there.
func (x *explainer) comesByOurs(asked []sim.Packet) error {
	known := map[string]bool{"": true}
	for _, l := range x.host.Links {
		known[l.Name] = true
	}
	var errs []error
	for _, p := range asked {
		if !known[p.In] {
			known[p.In] = true // is told once
			errs = append(errs, fmt.Errorf("the namespace has no interface %q", p.In))
		}
	}
	return errors.Join(errs...)
}

func (j *job) liveExplainer(ctx context.Context) (*explainer, error) {
	if err := j.connect(ctx); err != nil {
		return nil, err
	}
	live, err := j.conn.Ruleset(ctx)
	if err != nil {
		return nil, err
	}
	host, err := j.target.Host(ctx)
	if err != nil {
		return nil, withAdvice(err)
	}
	obstacle, err := j.legacy()
	if err != nil {
		return nil, err
	}
	tables, outside := seen(live.Tables)
	if obstacle == "" {
		obstacle = outside
	}
	return &explainer{host: host, evaluate: func(h sim.Host) func(sim.Packet) sim.Journey { return evaluateLive(h, tables, obstacle) }}, nil
}

// legacy is what of iptables-legacy stands in the way of an answer.
func (j *job) legacy() (obstacle string, err error) {
	tables, err := j.target.LegacyTables()
	var names []string
	for _, t := range tables {
		if t.Rules > 0 {
			names = append(names, t.Family+" "+t.Name)
		}
	}
	if len(names) > 0 {
		obstacle = "iptables-legacy has rules in table " + strings.Join(names, ", ") + ", which nftables cannot see"
	}
	return obstacle, withAdvice(err)
}

// seen are the tables that packets of IPv4 and IPv6 meet, and what among the
// others decides about such packets too.
func seen(tables []*nft.LiveTable) (out []sim.Table, obstacle string) {
	for _, t := range tables {
		switch r, met := rulesetOf(t); {
		case met:
			out = append(out, r)
		case (t.Family == "netdev" || t.Family == "bridge") && decides(t.Table):
			obstacle = "table " + t.Title() + " decides at the devices themselves, where weir does not follow"
		}
	}
	return out, obstacle
}

// rulesetOf is a table as packets meet it, and false where none of IPv4 and IPv6 do.
func rulesetOf(t *nft.LiveTable) (r sim.Table, met bool) {
	f, met := map[string]rules.Family{"inet": 0, "ip": rules.IPv4, "ip6": rules.IPv6}[t.Family]
	return sim.Table{Table: t.Table, Family: f}, met
}

// decides reports whether packets meet anything in the table: rules, or a policy.
func decides(t *rules.Table) bool {
	return !slices.Contains(t.Others, sim.DormantTable) &&
		slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return c.Base != nil && (c.Base.Drop || len(c.Rules) > 0) })
}

const someOrder = "two tables have chains of one priority, and which of them was made last, and so comes first, nftables does not tell"

// evaluateLive evaluates in every order that tables may have been made in: among
// chains of one priority the one that was made last comes first, and the kernel
// does not tell which of two tables' it was.
func evaluateLive(h sim.Host, tables []sim.Table, obstacle string) func(sim.Packet) sim.Journey {
	evaluators := map[rules.Family][]*sim.Evaluator{}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		for _, order := range orders(tables, f) {
			evaluators[f] = append(evaluators[f], sim.NewEvaluator(h, order...))
		}
	}
	return func(p sim.Packet) sim.Journey {
		all := evaluators[p.Family()]
		j := all[0].Evaluate(p, nil)
		why := obstacle
		if why == "" && len(all) == mostOrders {
			why = someOrder
		}
		for _, e := range all[1:] {
			if why != "" || j.Fate.Kind == sim.Unknown {
				break
			}
			switch other := e.Evaluate(p, nil); {
			case other.Fate.Kind == sim.Unknown:
				return other
			case other.Fate != j.Fate:
				why = someOrder
			}
		}
		if why != "" {
			j.Fate = sim.Fate{Kind: sim.Unknown, Src: j.Fate.Src, Dst: j.Fate.Dst, Why: why}
		}
		return j
	}
}

// mostOrders are tried of the orders of tables; where there are as many, not all of
// them were.
const mostOrders = 5 * 4 * 3 * 2

// orders are those in which the tables that see the family may have been made, as
// far as their chains tell, at most mostOrders of them.
func orders(tables []sim.Table, f rules.Family) (out [][]sim.Table) {
	var alone, tied []sim.Table
	for i, t := range tables {
		switch others := slices.Delete(slices.Clone(tables), i, i+1); {
		case t.Family != 0 && t.Family != f:
		case slices.ContainsFunc(others, func(o sim.Table) bool { return (o.Family == 0 || o.Family == f) && ties(t.Table, o.Table) }):
			tied = append(tied, t)
		default:
			alone = append(alone, t)
		}
	}
	inEveryOrder(tied, 0, func() bool {
		out = append(out, slices.Concat(alone, tied))
		return len(out) < mostOrders
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
