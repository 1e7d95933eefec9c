// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/stderr"
)

// printAnswers prints what becomes of each packet; an unknown fate is a failure.
func printAnswers(cc *cli.Context, x *explain.Explainer, packets []explain.Packet) error {
	unknown := 0
	explained := func(p explain.Packet) []explain.Answer { return []explain.Answer{x.Explain(p)} }
	if ownerUnsaid(cc) {
		explained = x.ByOwner
	}
	for _, p := range packets {
		for _, a := range explained(p) {
			if a.IsUnknown() {
				unknown++
			}
			if err := printAnswer(cc, a); err != nil {
				return err
			}
		}
	}
	if unknown > 0 {
		return toldError{fmt.Errorf("the fate of %d packets is unknown from here", unknown)}
	}
	return nil
}

// printAnswer writes an answer in the form that the flags ask for.
func printAnswer(cc *cli.Context, a explain.Answer) error {
	w := cc.App.Writer
	switch {
	case cc.Bool("json"):
		return writeJSONLine(w, a)
	case cc.Bool("markdown"):
		return markdownAnswer(w, a)
	}
	return textAnswer(w, a)
}

// columns are a step's: where, which rule, why, what.
func columns(s explain.Step, tables bool) (where, rule, reason, does string) {
	where = s.Hook.String()
	if s.Chain == "" {
		return where, "", "", escape.Text(s.Does)
	}
	rule = "policy"
	if s.Rule > 0 {
		rule = fmt.Sprintf("rule %d", s.Rule)
	}
	if s.Reason != "" {
		reason = `"` + escape.Text(s.Reason) + `"`
	}
	chain := escape.Text(s.Chain)
	if tables {
		chain = explain.TableTitle(s) + " " + chain
	}
	return fmt.Sprintf("%s\t%s %d\t%s", where, escape.Text(string(s.Type)), s.Priority, chain), rule, reason, escape.Text(s.Does)
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

func textAnswer(w io.Writer, a explain.Answer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", escape.Text(a.Headline()))
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, s := range a.Steps {
		where, rule, reason, does := columns(s, several(a.Steps))
		if s.Chain == "" {
			where += "\t\t"
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", where, rule, reason, does)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(a.Steps) == 0 {
		b.WriteString("  no rule decides about it\n")
	}
	fmt.Fprintf(&b, "\n  %s\n", colored(w, a))
	if a.Decided != "" && !strings.Contains(a.Says, a.Decided) {
		fmt.Fprintf(&b, "  decided by %s\n", a.Decided)
	}
	b.WriteString("\n")
	_, err := io.WriteString(escape.Unwrap(w), b.String()) // which would escape the colors
	return err
}

// colored is the fate, painted where a person at a terminal reads it (NO_COLOR, see
// no-color.org).
func colored(w io.Writer, a explain.Answer) string {
	text := escape.Text(a.Says)
	if os.Getenv("NO_COLOR") != "" || !stderr.IsTerminal(w) {
		return text
	}
	const green, yellow, red = 32, 33, 31
	color := red
	switch {
	case a.IsCaptured():
		color = green
	case a.IsUntouched():
		color = yellow
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", color, text)
}

func markdownAnswer(w io.Writer, a explain.Answer) error {
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
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is a text within a table of Markdown.
func cell(text string) string { return strings.ReplaceAll(escape.Text(text), "|", `\|`) }
