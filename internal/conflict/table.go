// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// maxSteps bounds how many rules are walked for one table: a large one is judged by fewer
// packets.
const maxSteps = 4_000_000

// table judges a table of another owner by the packets of every class, and by those that
// its rules name: in each order in which the tables may have been made, and where a rule
// holds what the model does not know, as if that matched and as if it did not.
func (j *judge) table(t Table) []Conflict {
	if t.Dormant || !touchesPackets(t.Table.Table) {
		return nil
	}
	var evaluators []*sim.Evaluator
	ways := readings(t.Table)
	host := j.host.With(j.want)
	own := sim.Table{Table: j.want.Table}
	for _, reading := range ways {
		if t.Age != Newer {
			evaluators = append(evaluators, sim.NewEvaluator(host, reading, own))
		}
		if t.Age != Older {
			evaluators = append(evaluators, sim.NewEvaluator(host, own, reading))
		}
	}
	rulesOf := 1
	for _, c := range t.Chains {
		rulesOf += len(c.Rules)
	}
	room := max(maxSteps/rulesOf/len(evaluators), len(j.classes()))
	found := findings{}
	for _, c := range j.probes(t, room) {
		before := j.exchange(c.packet)
		touched, tied := 0, len(evaluators) > len(ways)
		var first sim.Exchange
		byOrder := [2]bool{}
		for i, e := range evaluators {
			after := e.Connect(c.packet, nil)
			if same(before, after) {
				continue
			}
			if touched == 0 {
				first = after
			}
			touched++
			byOrder[i%2] = true
		}
		if touched == 0 {
			continue
		}
		d := j.describe(t, c, before, first)
		switch {
		case d.Kind == "":
			continue
		case touched == len(evaluators):
		case tied && byOrder[0] != byOrder[1]:
			d.May, d.tied = true, true
		default:
			d.May = true
		}
		found.add(d, c)
	}
	return found.conflicts(t)
}

// touchesPackets reports whether packets meet anything in the table.
func touchesPackets(t *rules.Table) bool {
	return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return c.Base != nil && (c.Base.Drop || len(c.Rules) > 0) })
}

// probes are the packets that a table is judged by: of each class the one that stands
// for it, and those that the table's rules name and the state captures too.
func (j *judge) probes(t Table, room int) (out []class) {
	out = slices.Clone(j.classes())
	for _, c := range j.classes() {
		for _, p := range witnesses(t.Table.Table, c.packet) {
			if len(out) >= room {
				return out
			}
			same := j.fate(p)
			if before := j.fate(c.packet); same.Kind == before.Kind && same.Port == before.Port {
				out = append(out, class{c.name, c.family, p, true})
			}
		}
	}
	return out
}

// same reports whether a connection comes out as it does by the state alone.
func same(alone, with sim.Exchange) bool {
	a, b := alone.First.Fate, with.First.Fate
	if a.Kind != b.Kind || a.Port != b.Port || a.Here != b.Here || a.Dst != b.Dst || a.Out != b.Out {
		return false
	}
	return alone.End == with.End || alone.End != sim.Completed
}

// describe says what the table does to a packet of a class.
func (j *judge) describe(t Table, c class, alone, with sim.Exchange) finding {
	journey := with.First
	if sameFate(alone.First.Fate, journey.Fate) { // the answer is lost, or what follows it
		journey = with.Answer
		if len(journey.Steps) == 0 || with.End == sim.Misplaced {
			journey = with.Next
		}
	}
	at, before := j.deciding(t, journey)
	f := finding{at: at}
	p := c.packet
	f.Example, f.Table = &p, t.FamilyName+" "+t.Name
	opaque := opaqueOf(t.Table.Table, at.Chain, at.Rule)
	switch fate := journey.Fate; {
	case at.Chain == "":
		return f
	case opaque != "" && !dropping(opaque):
		f.Kind, f.Takes = Redirects, true
	case at.Verdict.Kind == rules.DropKind && !before && j.dropsAnyway(t, p):
		return finding{} // a firewall that drops the same without the state
	case at.Verdict.Kind == rules.DropKind:
		f.Kind = Drops
	case fate.Kind == sim.Unknown:
		f.Kind, f.May = Bypasses, true
	case changesMark(journey, t):
		f.Kind, f.Takes = ChangesMarks, sim.Untouched == fate.Kind && sameFate(journey.Fate, with.First.Fate)
	case untracks(journey, t):
		f.Kind, f.Takes = Untracks, true
	case fate.Kind == sim.Redirected || fate.Kind == sim.Proxied:
		f.Kind, f.Takes = Redirects, true
	case fate.Kind == sim.Dropped || fate.Kind == sim.LostInRouting:
		f.Kind = Drops
	default:
		f.Kind, f.Takes = Bypasses, true
	}
	return f
}

func sameFate(a, b sim.Fate) bool {
	return a.Kind == b.Kind && a.Port == b.Port && a.Here == b.Here && a.Dst == b.Dst && a.Out == b.Out
}

// dropsAnyway reports whether the table drops the packet where the state is not there.
func (j *judge) dropsAnyway(t Table, p sim.Packet) bool {
	for _, reading := range readings(t.Table) {
		if sim.NewEvaluator(j.host, reading).Connect(p, nil).First.Fate.Kind == sim.Dropped {
			return true
		}
	}
	return false
}

// deciding is the last step of the table's that does anything, and whether it comes
// before the state's own rules did.
func (j *judge) deciding(t Table, journey sim.Journey) (at sim.Step, before bool) {
	own := false
	for _, s := range journey.Steps {
		switch {
		case t.decided(s):
			at, before = s, !own
		case s.Table == j.want.Table.Name && !s.Netdev && (s.HandsOn || strings.HasPrefix(s.Does, "redirect")):
			own = true
		}
	}
	return at, before
}

// decided reports whether a step is by the table's rules.
func (t Table) decided(s sim.Step) bool {
	return s.Table == t.Name && s.Family == t.Family && s.Netdev == t.Netdev
}

func changesMark(journey sim.Journey, t Table) bool {
	return slices.ContainsFunc(journey.Steps, func(s sim.Step) bool {
		return t.decided(s) && strings.Contains(s.Does, "mark set")
	})
}

func untracks(journey sim.Journey, t Table) bool {
	return slices.ContainsFunc(journey.Steps, func(s sim.Step) bool {
		return t.decided(s) && strings.Contains(s.Does, "notrack")
	})
}
