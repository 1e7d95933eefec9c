// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/weir-mesh/weir/internal/egress/units"
	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// printer prints reports.
type printer struct {
	out    io.Writer
	top    int
	json   bool
	live   bool              // each report takes the place of the last, on a terminal
	look   term.Look         // of the terminal, the zero one where it is none
	height int               // of the terminal, 0 where it is none
	by     string            // whose calls are told apart
	users  map[string]string // names by number
}

func (p printer) print(r watch.Report) error {
	left := 0
	if p.top > 0 && len(r.Rows) > p.top {
		left, r.Rows = len(r.Rows)-p.top, r.Rows[:p.top]
	}
	for i := range r.Rows {
		r.Rows[i].OwnerName = p.users[r.Rows[i].Owner]
	}
	if p.json {
		line, err := asJSON(r)
		if err != nil {
			return err
		}
		_, err = p.out.Write(escape.JSON(line))
		return err
	}
	var b bytes.Buffer
	p.table(&b, r, left)
	text := b.Bytes()
	if p.live {
		text = over(text)
	}
	_, err := p.out.Write(text)
	return err
}

// over writes lines over those that are on the screen, which would flicker if it was cleared first.
func over(text []byte) []byte {
	const home, restOfLine, restOfScreen = "\x1b[H", "\x1b[K", "\x1b[J"
	return []byte(home + strings.ReplaceAll(string(text), "\n", restOfLine+"\n") + restOfScreen)
}

func (p printer) table(out *bytes.Buffer, r watch.Report, left int) {
	p.look.Width = cmp.Or(p.look.Width, defaultWidth)
	var notes []string
	for _, note := range r.Notes() {
		notes = append(notes, strings.Split(p.look.Fold(escape.Text(note)), "\n")...)
	}
	const others = 3 // lines: the heading, how many rows are left, and where the cursor stays
	if room := max(p.height-len(notes)-others, 1); p.height > 0 && len(r.Rows) > room {
		left, r.Rows = left+len(r.Rows)-room, r.Rows[:room]
	}
	owner := map[string]string{modes.EgressByCgroup: "CGROUP", modes.EgressByPod: "POD"}[p.by]
	rows := [][]string{{"HOST", "PORT", cmp.Or(owner, "USER"), "BY", "CONNS", "SENT", "RECEIVED", "NOW"}}
	for _, row := range r.Rows {
		rows = append(rows, escape.Texts([]string{row.Host, p.port(row), cmp.Or(row.OwnerName, row.Owner, "-"), row.By, p.conns(row), units.Bytes(row.Sent), units.Bytes(row.Received), units.Rate(row.Now)}))
	}
	writeColumns(out, rows, p.look)
	switch {
	case left == 1:
		fmt.Fprintln(out, "1 more row (--top)")
	case left > 1:
		fmt.Fprintf(out, "%d more rows (--top)\n", left)
	}
	for _, note := range notes {
		fmt.Fprintln(out, p.look.Paint(term.Yellow, note))
	}
}

func (p printer) port(row watch.Row) string {
	if row.Proto == "udp" {
		return fmt.Sprintf("%d/udp", row.Port)
	}
	return fmt.Sprint(row.Port)
}

func (p printer) conns(row watch.Row) string {
	if row.Proto == "udp" {
		return "-"
	}
	return fmt.Sprint(row.Conns)
}
