// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// line is a rule.
type line struct {
	number  int
	reason  string
	text    string // whole
	rest    string // of the text, what neither does nor an arrow says
	does    string // the last statement
	kind    string // of what it does, see verdictKind
	targets []string
	packets uint64
	counted bool
	unknown bool
	steps   []int // of the journey, from 1
}

func (d *drawing) line(c *rules.Chain, index int, r rules.Rule) line {
	l := line{number: index + 1, reason: r.Reason, steps: d.steps(c.Name, index+1)}
	var nodes []rules.Node
	for _, n := range r.Nodes {
		switch n := n.(type) {
		case rules.Counter:
			l.counted, l.packets = true, l.packets+n.Packets
			continue
		case rules.Opaque:
			l.unknown = true
		}
		nodes = append(nodes, n)
	}
	d.picture.most = max(d.picture.most, l.packets)
	l.text = textOf(nodes...)
	var said []int
	l.does, l.kind, said = does(nodes)
	if l.targets = d.table.Targets(r); len(l.targets) > 0 {
		said = jumps(nodes)
	}
	for _, at := range slices.Backward(said) {
		nodes = slices.Delete(nodes, at, at+1)
	}
	l.rest = textOf(nodes...)
	return l
}

// steps are those of the journey that the rule made.
func (d *drawing) steps(chain string, rule int) []int {
	return d.picture.steps(d.g.Journey, func(s sim.Step) bool {
		return s.Chain == chain && s.Rule == rule && isOf(s, d.table.Table)
	})
}

// isOf reports whether a step was in a table.
func isOf(s sim.Step, t sim.Table) bool {
	return s.Table == t.Name && s.Family == t.Family && s.Netdev == t.Netdev
}

// stepName is where a step was.
func stepName(s sim.Step) string {
	switch {
	case s.Chain == "":
		return s.Hook.String()
	case s.Rule == 0:
		return s.Chain
	}
	return fmt.Sprintf("%s rule %d", s.Chain, s.Rule)
}

// stepText is a step in a line, for a rule that is not drawn.
func stepText(s sim.Step) string {
	at := stepName(s)
	if s.Reason != "" {
		at += fmt.Sprintf(" %q", s.Reason)
	}
	return at + ": " + s.Does
}

// does is what a rule does, of which kind that is, and which of its statements have those words: its capture, with a verdict
// at the end, or else its last statement.
func does(nodes []rules.Node) (does, kind string, said []int) {
	at := slices.IndexFunc(nodes, func(n rules.Node) bool { _, kind := verdict(n); return kind == "capture" })
	last := len(nodes) - 1
	if at < 0 {
		at = last
	}
	if at < 0 {
		return "", "", nil
	}
	if does, kind = verdict(nodes[at]); does == textOf(nodes[at]) {
		said = append(said, at)
	}
	if _, ends := nodes[last].(rules.Verdict); ends && at < last {
		does, said = does+" "+textOf(nodes[last]), append(said, last)
	}
	return does, kind, said
}

// jumps are the statements of which an arrow to the rule's target has the words.
func jumps(nodes []rules.Node) (said []int) {
	for i, n := range nodes {
		if v, ok := n.(rules.Verdict); ok && (v.Kind == rules.JumpKind || v.Kind == rules.GotoKind) {
			said = append(said, i)
		}
	}
	return said
}

func textOf(nodes ...rules.Node) string { return rules.Rule{Nodes: nodes}.String() }

// verdict is what a statement does.
func verdict(n rules.Node) (does, kind string) {
	text := textOf(n)
	switch n := n.(type) {
	case rules.Verdict:
		switch n.Kind {
		case rules.DropKind:
			return text, "drop"
		case rules.JumpKind, rules.GotoKind:
			return text, "jump"
		}
		return text, "pass"
	case rules.Reject:
		return text, "drop"
	case rules.VMap:
		return "by map", "jump"
	case rules.Redirect, rules.TProxy, rules.SNAT, rules.DNAT:
		return text, "capture"
	case rules.Assign, rules.NoTrack:
		return text, "mark"
	case rules.Opaque:
		return "unknown", "unknown"
	}
	return "", "pass"
}

func setsOf(r rules.Rule) (out []string) {
	for _, n := range r.Nodes {
		switch n := n.(type) {
		case rules.Match:
			if n.Set != "" {
				out = append(out, n.Set)
			}
		case rules.VMap:
			if n.Map != "" {
				out = append(out, n.Map)
			}
		}
	}
	return out
}

const maxElements = 6 // of a set that are drawn

// elements are the first of a set's, and how many there are.
func elements(s *rules.Set) string {
	var words []string
	for _, e := range s.Elements[:min(len(s.Elements), maxElements)] {
		words = append(words, e.Text(s.Key))
	}
	text := strings.Join(words, ", ")
	if more := len(s.Elements) - maxElements; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if text == "" {
		return "empty"
	}
	return text
}
