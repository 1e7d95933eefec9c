// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
)

// Mermaid writes the graph as a flowchart of mermaid.js.org, version 9 or later.
func (g Graph) Mermaid(w io.Writer) error {
	m := mermaid{Graph: g, picture: g.picture()}
	m.line("flowchart TB")
	for _, text := range append([]string{g.Title}, g.Notes...) {
		m.line("%%%% %s", comment.Replace(escape.Text(text)))
	}
	for _, h := range m.hooks {
		m.line("subgraph %s[\"%s\"]", hookID(h.hook), h.hook)
		m.line("direction TB")
		for i, b := range h.boxes {
			m.box(b)
			if i > 0 {
				m.edge(fmt.Sprintf("c%d ==> c%d", h.boxes[i-1].number, b.number), false)
			}
		}
		m.line("end")
	}
	for _, b := range m.loose {
		m.box(b)
	}
	for _, way := range [][]rules.Hook{
		{rules.Ingress, rules.Prerouting, rules.Input}, {rules.Ingress, rules.Prerouting, rules.Forward, rules.Postrouting, rules.Egress}, {rules.Output, rules.Postrouting, rules.Egress}} {
		m.way(way)
	}
	m.styles()
	_, err := io.WriteString(w, m.String())
	return err
}

type mermaid struct {
	Graph
	*picture
	strings.Builder
	edges    int
	onPath   []string // boxes
	pathEdge []string
	joined   []string // hooks
}

func (m *mermaid) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

func (m *mermaid) edge(text string, onPath bool) {
	if onPath {
		m.pathEdge = append(m.pathEdge, fmt.Sprint(m.edges))
	}
	m.edges++
	m.line("%s", text)
}

// way joins the hooks that there are of a packet's way, but for those that another
// way has joined.
func (m *mermaid) way(hooks []rules.Hook) {
	last := ""
	for _, h := range hooks {
		if !slices.ContainsFunc(m.hooks, func(there hook) bool { return there.hook == h }) {
			continue
		}
		if arrow := last + " ==> " + hookID(h); last != "" && !slices.Contains(m.joined, arrow) {
			m.edge(arrow, false)
			m.joined = append(m.joined, arrow)
		}
		last = hookID(h)
	}
}

func hookID(h rules.Hook) string { return "hook_" + h.String() }

func (m *mermaid) box(b *box) {
	rows := []string{"<b>" + label(b.title) + "</b>"}
	for _, more := range []string{b.place, b.note} {
		if more != "" {
			rows[0] += " <i>" + label(more) + "</i>"
		}
	}
	onPath := len(b.steps) > 0
	for _, s := range b.steps {
		rows = append(rows, "<b>"+label(stepText(m.Journey.Steps[s-1]))+"</b>")
	}
	for _, l := range b.rules {
		rows = append(rows, m.row(l))
		onPath = onPath || len(l.steps) > 0
	}
	m.line("c%d[\"%s\"]", b.number, strings.Join(rows, "<br/>"))
	if onPath {
		m.onPath = append(m.onPath, fmt.Sprintf("c%d", b.number))
	}
	for i, s := range b.sets {
		m.line("c%ds%d[/\"<b>%s</b><br/>%s\"/]", b.number, i, label(s.Name), label(elements(s)))
		m.edge(fmt.Sprintf("c%ds%d -.- c%d", b.number, i, b.number), false)
	}
	for _, below := range b.below {
		m.box(below)
	}
	for _, l := range b.rules {
		for _, target := range l.targets {
			if to := b.table.Chain(target); to != nil {
				m.edge(fmt.Sprintf("c%d -->|\"%d\"| c%d", b.number, l.number, m.numbers[to]), len(l.steps) > 0)
			}
		}
	}
}

func (m *mermaid) row(l line) string {
	what := l.reason
	if what == "" {
		what = l.text
	}
	row := fmt.Sprintf("%d. %s", l.number, label(what))
	if l.reason != "" && l.does != "" {
		row += " <i>" + label(l.does) + "</i>"
	}
	if m.Counted && l.counted {
		row += fmt.Sprintf(" (%d packets)", l.packets)
	}
	if len(l.steps) > 0 {
		row = "<b>" + row + "</b>"
	}
	return row
}

func (m *mermaid) styles() {
	if len(m.onPath) > 0 {
		m.line("classDef path stroke:#c2410c,stroke-width:3px")
		m.line("class %s path", strings.Join(m.onPath, ","))
	}
	if len(m.pathEdge) > 0 {
		m.line("linkStyle %s stroke:#c2410c,stroke-width:3px", strings.Join(m.pathEdge, ","))
	}
}

// Entities are written with # in labels. Mermaid looks for directives (%%{init}%%)
// everywhere, in labels and in comments.
var (
	comment = strings.NewReplacer("%", "#37;", "\n", " ", "\r", " ")
	quoted  = strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "%", "#37;", "$", "#36;", "\n", " ", "\r", " ")
)

// label is a text within a quoted label. Two dollars would begin a formula there.
func label(text string) string { return quoted.Replace(escape.Text(text)) }
