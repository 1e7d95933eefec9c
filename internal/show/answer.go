// SPDX-License-Identifier: Apache-2.0

//go:build linux

package show

import (
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
)

// Answer is what becomes of a packet, for a reader, escaped.
func Answer(a explain.Answer, look term.Look) string {
	var b strings.Builder
	b.WriteString(look.Paint(term.Bold, look.Fold(escape.Text(a.Headline()))) + "\n\n")
	tables := several(a.Steps)
	rows := make([][]term.Cell, len(a.Steps))
	for i, s := range a.Steps {
		rows[i] = stepCells(s, tables)
	}
	b.WriteString(look.Table(2, 3, rows))
	if len(a.Steps) == 0 {
		b.WriteString("  no rule decides about it\n")
	}
	b.WriteString("\n" + look.Paint(styleOf(a), look.Fold("  "+escape.Text(a.Says))) + "\n")
	if a.Decided != "" && !strings.Contains(a.Says, a.Decided) {
		b.WriteString(look.Fold("  decided by "+escape.Text(a.Decided)) + "\n")
	}
	return b.String() + "\n"
}

// stepCells are where a step is, which rule it is, why that is there, and what it does.
func stepCells(s explain.Step, tables bool) []term.Cell {
	if s.Chain == "" {
		return term.Cells(s.Hook.String(), "", "", "", "", escape.Text(s.Does))
	}
	rule, reason, chain := "policy", "", escape.Text(s.Chain)
	if s.Rule > 0 {
		rule = fmt.Sprintf("rule %d", s.Rule)
	}
	if s.Reason != "" {
		reason = `"` + escape.Text(s.Reason) + `"`
	}
	if tables {
		chain = escape.Text(explain.TableTitle(s)) + " " + chain
	}
	return term.Cells(s.Hook.String(), fmt.Sprintf("%s %d", escape.Text(string(s.Type)), s.Priority), chain, rule, reason, escape.Text(s.Does))
}

// several reports whether the steps are of several tables: chains of two may have one name.
func several(steps []explain.Step) bool {
	titles := map[string]bool{}
	for _, s := range steps {
		if s.Chain != "" {
			titles[explain.TableTitle(s)] = true
		}
	}
	return len(titles) > 1
}

func styleOf(a explain.Answer) term.Style {
	switch {
	case a.IsCaptured():
		return term.Green
	case a.IsUntouched():
		return term.Yellow
	}
	return term.Red
}

// MarkdownAnswer is what becomes of a packet, as Markdown.
func MarkdownAnswer(a explain.Answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", escape.Text(a.Headline()))
	if len(a.Steps) > 0 {
		b.WriteString("| hook | chain | rule | reason | does |\n| --- | --- | --- | --- | --- |\n")
	}
	for _, s := range a.Steps {
		rule := ""
		if s.Rule > 0 {
			rule = fmt.Sprint(s.Rule)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | `%s` |\n", s.Hook, cell(s.Chain), rule, cell(s.Reason), cell(s.Does))
	}
	if len(a.Steps) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s\n\n", escape.Text(a.Says))
	return b.String()
}

// MarkdownTable is rows as Markdown, the first of them as the heading.
func MarkdownTable(rows [][]string) string {
	var b strings.Builder
	for i, r := range rows {
		for _, c := range r {
			b.WriteString("| " + cell(c) + " ")
		}
		b.WriteString("|\n")
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", len(r)) + "|\n")
		}
	}
	return b.String()
}

// cell is a text within a table of Markdown.
func cell(text string) string { return strings.ReplaceAll(escape.Text(text), "|", `\|`) }
