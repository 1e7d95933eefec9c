// SPDX-License-Identifier: Apache-2.0

//go:build linux

package show

import (
	"bytes"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
)

const maxShown = 8 // elements of a set that are told unless all are asked for

// Text is the view for a reader, escaped; verbose has all elements of sets.
func (v View) Text(look term.Look, verbose bool) string {
	p := newPage(look)
	p.headline(v)
	for _, c := range v.Chains {
		p.chain(c)
	}
	for _, s := range v.Sets {
		p.set(s, verbose)
	}
	p.section("routing", term.Bold, v.Routing)
	p.section("unknown in this table", term.Red, v.Others)
	p.section("base chains of others", term.Bold, v.Foreign)
	var inTheWay []string
	for _, c := range v.Conflicts {
		inTheWay = append(inTheWay, c.String(), "remedy: "+c.Remedy)
	}
	p.section("in the way of captured traffic", term.Red, inTheWay)
	return p.text()
}

// page is lines on their way to a reader. Cells between tabs are aligned with those of the lines beside.
type page struct {
	look   term.Look
	lines  bytes.Buffer
	tabs   *tabwriter.Writer
	styles []term.Style // of each line
}

func newPage(look term.Look) *page {
	p := &page{look: look}
	p.tabs = tabwriter.NewWriter(&p.lines, 0, 8, 2, ' ', 0)
	return p
}

// line adds a line. What others named is escaped by its writer: a tab is a cell's end here.
func (p *page) line(s term.Style, format string, args ...any) {
	fmt.Fprintf(p.tabs, format+"\n", args...)
	p.styles = append(p.styles, s)
}

func (p *page) text() string {
	p.tabs.Flush() // into a buffer, which takes all
	lines := strings.Split(strings.TrimSuffix(p.lines.String(), "\n"), "\n")
	for i, line := range lines {
		lines[i] = p.look.Paint(p.styles[i], p.look.Fold(escape.Lines(line)))
	}
	return strings.Join(lines, "\n") + "\n"
}

func (p *page) headline(v View) {
	switch {
	case !v.Present:
		p.line(term.Yellow, "absent: there is no table inet %s", v.Table)
	case v.Family != "inet" || v.State == "":
		p.line(term.Bold, "table %s %s", v.Family, escape.Text(v.Table))
	case v.Written == "":
		p.line(term.Yellow, "table inet %s, which holds no tag of weir's", v.Table)
	case v.Drains:
		p.line(term.Yellow, "table inet %s, draining: nothing new is captured, and captured connections go on (%s)", v.Table, escape.Text(v.Written))
	case v.Drifted:
		p.line(term.Red, "table inet %s, drifted from what was written (%s)", v.Table, escape.Text(v.Written))
	default:
		p.line(term.Green, "table inet %s, as written (%s)", v.Table, escape.Text(v.Written))
	}
	switch c := v.Configuration; {
	case c == nil:
	case c.Same:
		p.line(term.Green, "it is what the configuration says")
	default:
		p.line(term.Red, "it differs from what the configuration says (weir verify says how)")
	}
}

func (p *page) chain(c Chain) {
	place := "reached by jumps"
	if c.Hook != "" {
		place = fmt.Sprintf("%s %s %d", escape.Text(c.Type), c.Hook, c.Priority)
		if c.Drop {
			place += ", policy drop"
		}
	}
	p.line(term.Plain, "")
	p.line(term.Bold, "chain %s (%s)", escape.Text(c.Name), place)
	for i, r := range c.Rules {
		counts := "-"
		if r.Counted {
			counts = fmt.Sprintf("%d packets\t%d bytes", r.Packets, r.Bytes)
		}
		if r.Reason == "" {
			p.line(term.Plain, "  %d\t%s\t%s", i+1, counts, escape.Text(r.Text))
			continue
		}
		p.line(term.Plain, "  %d\t%s\t\"%s\"", i+1, counts, escape.Text(r.Reason))
		p.line(term.Faint, "  \t%s", escape.Text(r.Text))
	}
}

func (p *page) set(s Set, verbose bool) {
	p.line(term.Plain, "")
	p.line(term.Bold, "set %s (%s), %s", escape.Text(s.Name), escape.Text(s.Type), term.Count(len(s.Elements), "element"))
	shown := s.Elements
	if !verbose {
		shown = shown[:min(len(shown), maxShown)]
	}
	text := strings.Join(shown, ", ")
	if len(shown) < len(s.Elements) {
		text += ", ..."
	}
	if text != "" {
		p.line(term.Plain, "  %s", escape.Text(text))
	}
}

func (p *page) section(title string, s term.Style, lines []string) {
	if len(lines) == 0 {
		return
	}
	p.line(term.Plain, "")
	p.line(s, "%s", title)
	for _, l := range lines {
		p.line(term.Plain, "  %s", escape.Text(l))
	}
}
