package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Usage:       "print what is live, lifted and readable, with each rule's reason and counters",
		Description: "Example: weir show --pid 4711",
		Flags:       withCommon(tableFlag(), &cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, DisableDefaultText: true, Usage: "all elements of the sets"}),
		Action: func(cc *cli.Context) error {
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.show(ctx) })
		},
	}
}

func (j *job) show(ctx context.Context) error {
	j.table = j.cc.String("table")
	if err := j.connect(); err != nil {
		return err
	}
	live, err := j.conn.Read(ctx, j.table)
	if err != nil {
		return fmt.Errorf("show inet %s: %w", j.table, err)
	}
	v := newView(j.table, live)
	if j.cc.Bool("json") {
		return writeJSON(j.cc.App.Writer, v)
	}
	return v.print(j.cc.App.Writer, j.cc.Bool("verbose"))
}

// view is what is live, as programs and people read it.
type view struct {
	Table   string      `json:"table"`
	Present bool        `json:"present"`
	State   string      `json:"state,omitempty"` // the hash
	Written string      `json:"written,omitempty"`
	Drifted bool        `json:"drifted"`
	Chains  []chainView `json:"chains"`
	Sets    []setView   `json:"sets"`
	Routing []string    `json:"routing"`
	Others  []string    `json:"others,omitempty"`
	Foreign []string    `json:"foreign"`
}

type chainView struct {
	Name     string     `json:"name"`
	Type     string     `json:"type,omitempty"`
	Hook     string     `json:"hook,omitempty"`
	Priority int32      `json:"priority"`
	Drop     bool       `json:"drop,omitempty"` // the policy
	Rules    []ruleView `json:"rules"`
}

type ruleView struct {
	Reason  string `json:"reason,omitempty"`
	Text    string `json:"text"`
	Counted bool   `json:"counted"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

type setView struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Elements []string `json:"elements"`
}

func newView(table string, live *nft.Live) view {
	v := view{Table: table, Chains: []chainView{}, Sets: []setView{}, Routing: append([]string{}, live.State.Routing()...), Foreign: []string{}}
	for _, f := range live.Foreign {
		v.Foreign = append(v.Foreign, f.String())
	}
	t := live.State.Table
	if t == nil {
		return v
	}
	v.Present, v.State, v.Others = true, live.State.Hash(), t.Others
	if live.Tag != nil {
		v.Written = live.Tag.String()
	}
	if drift, err := live.Drift(); err != nil || len(drift) > 0 {
		v.Drifted = true
	}
	for _, s := range t.Sets {
		sv := setView{Name: s.Name, Type: s.Declaration(), Elements: []string{}}
		for _, e := range s.Elements {
			sv.Elements = append(sv.Elements, e.Text(s.Key))
		}
		v.Sets = append(v.Sets, sv)
	}
	for _, c := range t.Chains {
		v.Chains = append(v.Chains, newChainView(c))
	}
	return v
}

func newChainView(c *rules.Chain) chainView {
	v := chainView{Name: c.Name, Rules: []ruleView{}}
	if b := c.Base; b != nil {
		v.Type, v.Hook, v.Priority, v.Drop = string(b.Type), b.Hook.String(), b.Priority, b.Drop
	}
	for _, r := range c.Rules {
		rv := ruleView{Reason: r.Reason}
		for _, n := range r.Nodes {
			if count, ok := n.(rules.Counter); ok {
				rv.Counted, rv.Packets, rv.Bytes = true, count.Packets, count.Bytes
			}
		}
		r.Reason = ""
		rv.Text = r.String()
		v.Rules = append(v.Rules, rv)
	}
	return v
}

const maxShown = 8 // elements of a set that are printed unless all are asked for

func (v view) print(w io.Writer, verbose bool) error {
	p := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	switch {
	case !v.Present:
		fmt.Fprintf(p, "absent: there is no table inet %s\n", v.Table)
	case v.Written == "":
		fmt.Fprintf(p, "table inet %s, which holds no tag of weir's\n", v.Table)
	case v.Drifted:
		fmt.Fprintf(p, "table inet %s, drifted from what was written (%s)\n", v.Table, v.Written)
	default:
		fmt.Fprintf(p, "table inet %s, as written (%s)\n", v.Table, v.Written)
	}
	for _, c := range v.Chains {
		c.print(p)
	}
	for _, s := range v.Sets {
		s.print(p, verbose)
	}
	section(p, "routing", v.Routing)
	section(p, "unknown in this table", v.Others)
	section(p, "base chains of others", v.Foreign)
	return p.Flush()
}

func (c chainView) print(w io.Writer) {
	place := "reached by jumps"
	if c.Hook != "" {
		place = fmt.Sprintf("%s %s %d", c.Type, c.Hook, c.Priority)
	}
	fmt.Fprintf(w, "\nchain %s (%s)\n", c.Name, place)
	for i, r := range c.Rules {
		counts := "-"
		if r.Counted {
			counts = fmt.Sprintf("%d packets\t%d bytes", r.Packets, r.Bytes)
		}
		fmt.Fprintf(w, "  %d\t%s\t%q\n  \t%s\n", i+1, counts, r.Reason, r.Text)
	}
}

func (s setView) print(w io.Writer, verbose bool) {
	fmt.Fprintf(w, "\nset %s (%s), %d elements\n", s.Name, s.Type, len(s.Elements))
	shown := s.Elements
	if !verbose {
		shown = shown[:min(len(shown), maxShown)]
	}
	text := strings.Join(shown, ", ")
	if len(shown) < len(s.Elements) {
		text += ", ..."
	}
	if text != "" {
		fmt.Fprintf(w, "  %s\n", text)
	}
}

func section(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(w, "  %s\n", l)
	}
}
