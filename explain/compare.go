// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"cmp"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"github.com/weir-mesh/weir/sim/survey"
)

// Change is a class of packets whose fate is another.
type Change struct {
	From, To      string // which packets: who sends them, and where to
	Before, After string // their fates in words
	Example       sim.Packet
}

// Compare are the classes of packets of a host that change fate between two rules,
// what escapes the proxy after the change first; none where every packet keeps its
// fate, however differently the rules are written. The error says why there are too
// many classes to tell apart.
func Compare(host sim.Host, before, after Rules) ([]Change, error) {
	space, err := survey.New(host, before.State, after.State)
	if err != nil {
		return nil, err
	}
	was, is, bare := sim.EvaluatorOf(space.States[0], space.Host), sim.EvaluatorOf(space.States[1], space.Host), sim.NewEvaluator(space.Host)
	fates := func(p sim.Packet) (change, bool) {
		c := change{wholeFateOf(was, p), wholeFateOf(is, p)}
		lost := c.before.kind == sim.LostInRouting || c.after.kind == sim.LostInRouting
		return c, !lost || bare.Evaluate(p, nil).Fate.Kind != sim.LostInRouting
	}
	var out []Change
	for _, row := range survey.Rows(space, fates, change.compare, func(c change) bool { return c.before != c.after }) {
		b, a := row.Outcome.texts(before.Listeners, after.Listeners)
		out = append(out, Change{From: row.Who, To: row.Where, Before: b, After: a, Example: row.Example})
	}
	return out, nil
}

// change is the fate of a class of packets by the former rules and by the latter.
type change struct{ before, after wholeFate }

func (c change) compare(d change) int {
	rank := func(w wholeFate) int { return classFate{kind: w.kind}.rank() }
	return cmp.Or(cmp.Compare(rank(c.after), rank(d.after)), cmp.Compare(rank(c.before), rank(d.before)), cmp.Compare(c.after.port, d.after.port))
}

// texts are both fates; where all else is alike, with where the packet goes and how.
func (c change) texts(listenersBefore, listenersAfter map[rules.Port]string) (before, after string) {
	before, after = c.before.text(listenersBefore), c.after.text(listenersAfter)
	if before == after {
		before, after = before+c.before.way(), after+c.after.way()
	}
	if before == after {
		before, after = before+c.before.addresses(), after+c.after.addresses()
	}
	return before, after
}

// wholeFate is all of a fate that a listener, or another rule, can tell.
type wholeFate struct {
	kind         sim.FateKind
	port         rules.Port
	out          string
	from         netip.Addr // as of a classFate
	mark, ctMark rules.Mark
	zone         rules.Zone
}

func wholeFateOf(e *sim.Evaluator, p sim.Packet) wholeFate {
	j := e.Evaluate(p, nil)
	f := j.Fate
	w := wholeFate{kind: f.Kind, port: f.Port, out: f.Out, mark: f.Mark, ctMark: f.CTMark, zone: f.Zone}
	if f.Kind == sim.Dropped || f.Kind == sim.LostInRouting || f.Kind == sim.Rejected {
		return wholeFate{kind: f.Kind}
	}
	if f.Src.Addr() != j.Packet.Src.Addr() {
		w.from = f.Src.Addr()
	}
	return w
}

func (w wholeFate) text(names map[rules.Port]string) string {
	return classFate{kind: w.kind, port: w.port, from: w.from}.text(names) + marksText(w.mark, w.ctMark, w.zone)
}

func (w wholeFate) addresses() string {
	if w.kind == sim.Proxied {
		return ", addresses unchanged"
	}
	return ""
}

func (w wholeFate) way() string {
	if w.out == "" {
		return ", delivered here"
	}
	return ", leaves by " + w.out
}
