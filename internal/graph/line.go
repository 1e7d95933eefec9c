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
	l.text = rules.Rule{Nodes: nodes}.String()
	l.does, l.kind = does(nodes)
	l.targets = d.table.Targets(r)
	l.rest = rules.Rule{Nodes: slices.DeleteFunc(nodes, func(n rules.Node) bool { return l.says(n) })}.String()
	return l
}

// steps are those of the journey that the rule made.
func (d *drawing) steps(chain string, rule int) []int {
	return d.picture.steps(d.g.Journey, func(s sim.Step) bool {
		return s.Chain == chain && s.Rule == rule && s.Table == d.table.Name && s.Family == d.table.Family
	})
}

// stepText is a step in a line, for a rule that is not drawn.
func stepText(s sim.Step) string {
	if s.Rule == 0 {
		return s.Chain + ": " + s.Does
	}
	at := fmt.Sprintf("%s rule %d", s.Chain, s.Rule)
	if s.Reason != "" {
		at += fmt.Sprintf(" %q", s.Reason)
	}
	return at + ": " + s.Does
}

// says reports whether what the rule does, or the arrow to its target, has a statement's words.
func (l line) says(n rules.Node) bool {
	_, isMap := n.(rules.VMap)
	text, kind := verdict(n)
	if len(l.targets) > 0 {
		return kind == "jump" && !isMap
	}
	return text != "" && text == l.does && text == rules.Rule{Nodes: []rules.Node{n}}.String()
}

// does is what a rule does, and of which kind that is: its capture, whatever it does
// besides, or else its last statement.
func does(nodes []rules.Node) (does, kind string) {
	for _, n := range nodes {
		if does, kind = verdict(n); kind == "capture" {
			break
		}
	}
	return does, kind
}

// verdict is what a statement does.
func verdict(n rules.Node) (does, kind string) {
	text := rules.Rule{Nodes: []rules.Node{n}}.String()
	switch n := n.(type) {
	case rules.Verdict:
		switch n.Kind {
		case rules.DropKind:
			return text, "drop"
		case rules.JumpKind, rules.GotoKind:
			return text, "jump"
		}
		return text, "pass"
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
