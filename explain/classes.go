// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"github.com/weir-mesh/weir/sim/survey"
)

// Class is a class of packets that rules treat alike.
type Class struct {
	From, To string // which packets: who sends them, and where to
	Fate     string // in words
	Why      string // the reason of the rule that decides, or why it is not known
	Listener string // the name of the listener that gets them, "" for none
	Example  sim.Packet
}

// Classes are all classes of packets in a host where the rules are in force, what
// escapes the proxy first. The error says why there are too many to tell apart.
func (r Rules) Classes(host sim.Host) ([]Class, error) {
	space, err := survey.New(host, r.State)
	if err != nil {
		return nil, err
	}
	rules, bare := sim.EvaluatorOf(space.States[0], space.Host), sim.NewEvaluator(space.Host)
	closed := sim.EvaluatorOf(space.States[0], withoutListeners(space.Host))
	follow := func(e *sim.Evaluator) evaluator {
		return func(p sim.Packet) sim.Journey { return e.Evaluate(p, nil) }
	}
	return surveyor{rules: follow(rules), bare: follow(bare), closed: follow(closed)}.classes(space, r.Listeners), nil
}

// Classes are all classes of packets that the explainer's tables treat alike, what
// escapes the proxy first: of a namespace, by what it holds now. The error says why there
// are too many to tell apart.
func (x *Explainer) Classes() ([]Class, error) {
	var states []rules.State
	for _, t := range x.tables {
		states = append(states, rules.State{Table: t})
	}
	space, err := survey.New(x.host, states...)
	if err != nil {
		return nil, err
	}
	bare := sim.NewEvaluator(space.Host)
	s := surveyor{rules: x.evaluatorOf(space.Host), closed: x.evaluatorOf(withoutListeners(space.Host)),
		bare: func(p sim.Packet) sim.Journey { return bare.Evaluate(p, nil) }, explainer: x}
	return s.classes(space, x.listeners), nil
}

func (s surveyor) classes(space *survey.Space, listeners map[rules.Port]string) (out []Class) {
	for _, row := range survey.Rows(space, s.fate, compareFates, func(classFate) bool { return true }) {
		out = append(out, Class{From: row.Who, To: row.Where, Fate: row.Outcome.text(listeners), Why: row.Outcome.why,
			Listener: listeners[row.Outcome.port], Example: row.Example})
	}
	return out
}

// classFate is what becomes of a class of packets, and why.
type classFate struct {
	kind sim.FateKind
	port rules.Port // of the listener that gets it
	from netip.Addr // the source that the rules give it; not valid: its own
	// unheard is what becomes of it where its transparent listener does not listen.
	unheard string
	taken   bool // by another program's table
	why     string
}

// rank puts what escapes the proxy first, then what does not arrive.
func (o classFate) rank() int {
	if o.taken {
		return -1
	}
	return map[sim.FateKind]int{sim.Untouched: 0, sim.Unknown: 1, sim.Dropped: 2, sim.LostInRouting: 3, sim.Rejected: 4, sim.Redirected: 5, sim.Proxied: 6}[o.kind]
}

func compareFates(a, b classFate) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.port, b.port), a.from.Compare(b.from), strings.Compare(a.unheard, b.unheard), strings.Compare(a.why, b.why))
}

// surveyor evaluates packets by the rules, without any, and by the rules where
// nothing listens.
type surveyor struct {
	rules, bare, closed evaluator
	explainer           *Explainer // of a namespace; nil: of a configuration
}

func (s surveyor) fate(p sim.Packet) (classFate, bool) {
	o, ok := classFateOf(s.rules, s.bare, p)
	if o.kind == sim.Proxied {
		o.unheard = classFate{kind: s.closed(p).Fate.Kind}.text(nil)
	}
	if s.explainer != nil && ok {
		a := Answer{Journey: s.rules(p)}
		s.explainer.decide(&a)
		o.taken = a.Taken
		if at := a.Decision(); at.Chain != "" && (at.Reason == "" || a.Taken) && o.kind != sim.Unknown {
			o.why = a.Decided
		}
	}
	return o, ok
}

// classFateOf evaluates a packet; false is for one that would arrive nowhere without
// any rules.
func classFateOf(e, bare evaluator, p sim.Packet) (classFate, bool) {
	j := e(p)
	f := j.Fate
	if f.Kind == sim.LostInRouting && bare(p).Fate.Kind == sim.LostInRouting {
		return classFate{}, false
	}
	o := classFate{kind: f.Kind, why: cmp.Or(j.Decision().Reason, "no rule decides about it")}
	if f.Src.Addr() != j.Packet.Src.Addr() {
		o.from = f.Src.Addr()
	}
	switch f.Kind {
	case sim.Redirected, sim.Proxied:
		o.port = f.Port
	case sim.LostInRouting, sim.Unknown:
		o.why = f.Why
	}
	return o, true
}

func (o classFate) text(names map[rules.Port]string) string {
	switch o.kind {
	case sim.Redirected, sim.Proxied:
		if o.taken {
			return fmt.Sprintf("taken to :%d", o.port)
		}
		text := strings.TrimSpace(fmt.Sprintf("%s :%d", names[o.port], o.port))
		if o.unheard != "" {
			text += " (no listener: " + o.unheard + ")"
		}
		return text
	case sim.Untouched:
		if o.from.IsValid() {
			return "comes from " + o.from.String()
		}
		return "left alone"
	}
	return o.kind.String()
}
