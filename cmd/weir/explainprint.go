//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/weir-mesh/weir/sim"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/stderr"
	"github.com/weir-mesh/weir/rules"
)

// printAnswers prints what becomes of each packet; an unknown fate is a failure.
func printAnswers(cc *cli.Context, x *explain.Explainer, packets []sim.Packet) error {
	unknown := 0
	for _, p := range packets {
		a := x.Explain(p)
		if a.Fate.Kind == sim.Unknown {
			unknown++
		}
		if err := printAnswer(cc, a); err != nil {
			return err
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
		return writeJSONLine(w, newExplanation(a))
	case cc.Bool("markdown"):
		return markdownAnswer(w, a)
	}
	return textAnswer(w, a)
}

// explanation is an answer as programs read it.
type explanation struct {
	Packet string     `json:"packet"`
	From   string     `json:"from,omitempty"`
	In     string     `json:"in,omitempty"`
	UID    *uint32    `json:"uid,omitempty"`
	GID    *uint32    `json:"gid,omitempty"`
	Mark   string     `json:"mark,omitempty"`
	Path   []stepView `json:"path"`
	Fate   fateView   `json:"fate"`
}

type stepView struct {
	Hook     string `json:"hook"`
	Table    string `json:"table,omitempty"`
	Chain    string `json:"chain,omitempty"`
	Type     string `json:"type,omitempty"`
	Priority int32  `json:"priority"`
	Rule     int    `json:"rule,omitempty"` // from 1
	Reason   string `json:"reason,omitempty"`
	Does     string `json:"does"`
}

type fateView struct {
	Kind     string `json:"kind"`
	Says     string `json:"says"`
	To       string `json:"to"`
	Here     bool   `json:"here"`
	Out      string `json:"out,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Listener string `json:"listener,omitempty"`
	Original string `json:"original,omitempty"`
	Mark     string `json:"mark,omitempty"`
	CTMark   string `json:"ctMark,omitempty"`
	Zone     uint16 `json:"zone,omitempty"`
}

func newExplanation(a explain.Answer) explanation {
	p, f := a.Packet, a.Fate
	e := explanation{Packet: explain.ProtoName(p.Proto) + " " + explain.Endpoint(p.Proto, p.Dst), In: p.In, Mark: hexMark(p.Mark), Path: []stepView{}}
	if p.Src.Addr().IsValid() {
		e.From = explain.Endpoint(p.Proto, p.Src)
	}
	if p.Socket != nil {
		uid, gid := uint32(p.Socket.UID), uint32(p.Socket.GID)
		e.UID, e.GID = &uid, &gid
	}
	for _, s := range a.Steps {
		e.Path = append(e.Path, stepView{Hook: s.Hook.String(), Table: s.Table, Chain: s.Chain, Type: string(s.Type),
			Priority: s.Priority, Rule: s.Rule, Reason: s.Reason, Does: s.Does})
	}
	e.Fate = fateView{Kind: f.Kind.String(), Says: a.Says, To: explain.Endpoint(p.Proto, f.Dst), Here: f.Here, Out: f.Out,
		Port: uint16(f.Port), Listener: a.Listener, Mark: hexMark(f.Mark), CTMark: hexMark(f.CTMark), Zone: uint16(f.Zone)}
	if f.Kind == sim.Redirected {
		e.Fate.Original = explain.Endpoint(p.Proto, f.Asked)
	}
	return e
}

// hexMark is a mark as nft prints it, "" for none.
func hexMark(m rules.Mark) string {
	if m == 0 {
		return ""
	}
	return fmt.Sprintf("0x%x", uint32(m))
}

// columns are a step's: where, which rule, why, what.
func columns(s sim.Step) (where, rule, reason, does string) {
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
	return fmt.Sprintf("%s\t%s %d\t%s", where, escape.Text(string(s.Type)), s.Priority, escape.Text(s.Chain)), rule, reason, escape.Text(s.Does)
}

func textAnswer(w io.Writer, a explain.Answer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", escape.Text(a.Headline()))
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, s := range a.Steps {
		where, rule, reason, does := columns(s)
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
	fmt.Fprintf(&b, "\n  %s\n\n", colored(w, a.Fate.Kind, escape.Text(a.Says)))
	_, err := io.WriteString(escape.Unwrap(w), b.String()) // which would escape the colors
	return err
}

// colored paints a fate where a person at a terminal reads it (NO_COLOR, see
// no-color.org).
func colored(w io.Writer, k sim.FateKind, text string) string {
	if os.Getenv("NO_COLOR") != "" || !stderr.IsTerminal(w) {
		return text
	}
	const green, yellow, red = 32, 33, 31
	color := red
	switch k {
	case sim.Redirected, sim.Proxied:
		color = green
	case sim.Untouched:
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
