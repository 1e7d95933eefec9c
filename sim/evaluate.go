// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// Evaluator tells what becomes of packets in a namespace. It is prepared once
// and may be used by many at a time.
type Evaluator struct {
	host    Host
	hooks   map[rules.Family]*[rules.Egress + 1][]station // that packets of a family meet
	names   map[*rules.Table]names
	tracked []rules.Family // whose connections conntrack knows
}

// names are a table's sets and chains, as rules refer to them, and the packets that
// it sees.
type names struct {
	family rules.Family // 0: both
	netdev bool
	sets   map[string]*index
	chains map[string]*rules.Chain
}

// Table is a table of nftables and the packets that it sees: a table of family inet sees
// both families, and one of family netdev what passes its devices.
type Table struct {
	*rules.Table
	Family rules.Family // 0: both
	Netdev bool
}

// station is what a packet meets at a hook: a base chain, all nat chains, or
// conntrack.
type station struct {
	chains []baseChain
	nat    bool
	tracks bool
}

type baseChain struct {
	*rules.Table
	*rules.Chain
	family rules.Family // that the table sees, 0: both
}

// NewEvaluator is for packets that meet all those tables, in the order in which
// they were made, each table's chains in theirs.
func NewEvaluator(h Host, tables ...Table) *Evaluator {
	e := &Evaluator{host: h, hooks: map[rules.Family]*[rules.Egress + 1][]station{}, names: map[*rules.Table]names{}, tracked: tracked(tables)}
	var awake []Table
	for _, t := range tables {
		n := names{t.Family, t.Netdev, map[string]*index{}, map[string]*rules.Chain{}}
		for _, s := range t.Sets {
			n.sets[s.Name] = newIndex(s)
		}
		for _, c := range t.Chains {
			n.chains[c.Name] = c
		}
		e.names[t.Table] = n
		if !t.Dormant {
			awake = append(awake, t)
		}
	}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		// The kernel hooks nat in for a family with the first nat chain that sees it.
		var seeing []*rules.Table
		for _, t := range awake {
			if t.Family == 0 || t.Family == f {
				seeing = append(seeing, t.Table)
			}
		}
		e.hooks[f] = new([rules.Egress + 1][]station)
		for h := range e.hooks[f] {
			e.hooks[f][h] = e.stations(rules.Hook(h), seeing)
		}
	}
	return e
}

// stations are what packets meet at a hook.
func (e *Evaluator) stations(hook rules.Hook, tables []*rules.Table) (out []station) {
	var nat []baseChain
	for _, s := range hook.Stations(tables...) {
		switch {
		case s.Tracks:
			out = append(out, station{tracks: true})
		case s.NAT:
			out = append(out, station{chains: nat, nat: true})
		case s.Chain.Base.Type == rules.NATType:
			nat = append(nat, baseChain{s.Table, s.Chain, e.names[s.Table].family})
		default:
			out = append(out, station{chains: []baseChain{{s.Table, s.Chain, e.names[s.Table].family}}})
		}
	}
	return out
}

// EvaluatorOf is for packets in a namespace that holds that state alone, with its routing
// and addresses as [Host.With] adds them. What [rules.State.Check] refuses may be evaluated
// as no kernel would.
func EvaluatorOf(s rules.State, h Host) *Evaluator {
	h = h.With(s)
	if s.Table == nil {
		return NewEvaluator(h)
	}
	return NewEvaluator(h, Table{Table: s.Table})
}

// tracked are the families of which some rule needs conntrack.
func tracked(tables []Table) (out []rules.Family) {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if slices.ContainsFunc(tables, func(t Table) bool { return (t.Family == 0 || t.Family == f) && t.Tracks(f) }) {
			out = append(out, f)
		}
	}
	return out
}

// Evaluate is the journey of a packet. The tracker knows the packets that went
// before, and will know this one; nil knows none.
func (e *Evaluator) Evaluate(p Packet, t *Tracker) Journey {
	w := &walk{Evaluator: e, tracker: t, packet: p, sender: p.Socket}
	if t == nil {
		w.tracker = new(Tracker)
	}
	w.journey.Packet, w.journey.Steps = p, make([]Step, 0, 8)
	if p.State != 0 {
		w.assumeState()
	}
	if p.In == "" {
		w.send()
	} else {
		w.arrive(p.In)
	}
	w.finish()
	return w.journey
}

func (c baseChain) sees(p *Packet) bool { return c.family == 0 || c.family == p.Family() }
