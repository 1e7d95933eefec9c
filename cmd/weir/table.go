// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/show"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/internal/tty"
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
	return printRows(cc, views, classTable(classes), func(row int) term.Style {
		if views[row].Listener != "" {
			return term.Green
		}
		return term.Yellow
	})
}

func classTable(classes []explain.Class) [][]string {
	table := [][]string{{"who", "where to", "what happens", "why"}}
	for _, c := range classes {
		table = append(table, []string{c.From, c.To, c.Fate, c.Why})
	}
	return table
}

// fateColumn is the column of a table of fates that says what happens.
const fateColumn = 2

// printRows prints rows as --json or --markdown asks, or as a table whose first row is the heading; views are what
// programs read. The fate of a row, counted without the heading, has a style.
func printRows(cc *cli.Context, views any, table [][]string, fate func(row int) term.Style) error {
	w := cc.App.Writer
	switch {
	case cc.Bool("json"):
		return writeJSON(w, views)
	case cc.Bool("markdown"):
		return writeText(w, show.MarkdownTable(table))
	}
	rows := make([][]term.Cell, len(table))
	for i, r := range table {
		rows[i] = term.Cells(escape.Texts(r)...)
		if i > 0 {
			rows[i][fateColumn].Style = fate(i - 1)
		}
	}
	for i := range rows[0] {
		rows[0][i] = term.Cell{Text: strings.ToUpper(rows[0][i].Text), Style: term.Bold}
	}
	return writeText(w, tty.LookOf(w).Table(0, 3, rows))
}
