// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/show"
)

const maxShown = 8 // elements of a set that are printed unless all are asked for

func printView(w io.Writer, v show.View, verbose bool) error {
	p := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	switch {
	case !v.Present:
		fmt.Fprintf(p, "absent: there is no table inet %s\n", v.Table)
	case v.Family != "inet" || v.State == "":
		fmt.Fprintf(p, "table %s %s\n", v.Family, escape.Text(v.Table))
	case v.Written == "":
		fmt.Fprintf(p, "table inet %s, which holds no tag of weir's\n", v.Table)
	case v.Drains:
		fmt.Fprintf(p, "table inet %s, draining: nothing new is captured, and captured connections go on (%s)\n", v.Table, v.Written)
	case v.Drifted:
		fmt.Fprintf(p, "table inet %s, drifted from what was written (%s)\n", v.Table, escape.Text(v.Written))
	default:
		fmt.Fprintf(p, "table inet %s, as written (%s)\n", v.Table, escape.Text(v.Written))
	}
	printAgreement(p, v.Configuration)
	for _, c := range v.Chains {
		printChain(p, c)
	}
	for _, s := range v.Sets {
		printSet(p, s, verbose)
	}
	section(p, "routing", v.Routing)
	section(p, "unknown in this table", v.Others)
	section(p, "base chains of others", v.Foreign)
	var inTheWay []string
	for _, c := range v.Conflicts {
		inTheWay = append(inTheWay, c.String(), "remedy: "+c.Remedy)
	}
	section(p, "in the way of captured traffic", inTheWay)
	return p.Flush()
}

func printAgreement(w io.Writer, c *show.Agreement) {
	switch {
	case c == nil:
	case c.Same:
		fmt.Fprintln(w, "it is what the configuration says")
	default:
		fmt.Fprintln(w, "it differs from what the configuration says (weir verify says how)")
	}
}

func printChain(w io.Writer, c show.Chain) {
	place := "reached by jumps"
	if c.Hook != "" {
		place = fmt.Sprintf("%s %s %d", escape.Text(c.Type), c.Hook, c.Priority)
		if c.Drop {
			place += ", policy drop"
		}
	}
	fmt.Fprintf(w, "\nchain %s (%s)\n", escape.Text(c.Name), place)
	for i, r := range c.Rules {
		counts := "-"
		if r.Counted {
			counts = fmt.Sprintf("%d packets\t%d bytes", r.Packets, r.Bytes)
		}
		if r.Reason == "" {
			fmt.Fprintf(w, "  %d\t%s\t%s\n", i+1, counts, escape.Text(r.Text))
			continue
		}
		fmt.Fprintf(w, "  %d\t%s\t\"%s\"\n  \t%s\n", i+1, counts, escape.Text(r.Reason), escape.Text(r.Text))
	}
}

func printSet(w io.Writer, s show.Set, verbose bool) {
	fmt.Fprintf(w, "\nset %s (%s), %d elements\n", escape.Text(s.Name), escape.Text(s.Type), len(s.Elements))
	shown := s.Elements
	if !verbose {
		shown = shown[:min(len(shown), maxShown)]
	}
	text := strings.Join(shown, ", ")
	if len(shown) < len(s.Elements) {
		text += ", ..."
	}
	if text != "" {
		fmt.Fprintf(w, "  %s\n", escape.Text(text))
	}
}

func section(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(w, "  %s\n", escape.Text(l))
	}
}
