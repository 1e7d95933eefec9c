// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/escape"
)

// classView is a class of packets as programs read it.
type classView struct {
	Who      string `json:"who"`
	Where    string `json:"where"`
	Fate     string `json:"fate"`
	Why      string `json:"why"`
	Example  string `json:"example"`
	Listener string `json:"listener,omitempty"`
}

// printClasses prints every class of packets, what escapes the proxy first.
func printClasses(cc *cli.Context, classes []explain.Class) error {
	var views []classView
	for _, c := range classes {
		views = append(views, classView{c.From, c.To, c.Fate, c.Why, explain.PacketText(c.Example), c.Listener})
	}
	return printRows(cc, views, classTable(classes))
}

func classTable(classes []explain.Class) [][]string {
	table := [][]string{{"who", "where to", "what happens", "why"}}
	for _, c := range classes {
		table = append(table, []string{c.From, c.To, c.Fate, c.Why})
	}
	return table
}

// printRows prints rows as --json or --markdown asks, or as a table; views are what
// programs read.
func printRows(cc *cli.Context, views any, table [][]string) error {
	switch w := cc.App.Writer; {
	case cc.Bool("json"):
		return writeJSON(w, views)
	case cc.Bool("markdown"):
		return printMarkdown(w, table)
	default:
		return printTable(w, table)
	}
}

// printTable prints rows in columns, the first of them as the heading.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for i, r := range rows {
		line := strings.Join(escape.Texts(r), "\t")
		if i == 0 {
			line = strings.ToUpper(line)
		}
		fmt.Fprintln(t, line)
	}
	return t.Flush()
}

// printMarkdown prints rows as a table of Markdown, the first of them as the heading.
func printMarkdown(w io.Writer, rows [][]string) error {
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
	_, err := io.WriteString(w, b.String())
	return err
}
