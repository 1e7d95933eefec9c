// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"

	"github.com/weir-mesh/weir/internal/egress/units"
	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
)

// printer prints reports.
type printer struct {
	out           io.Writer
	top           int
	json          bool
	live          bool              // each report takes the place of the last, on a terminal
	width, height int               // of the terminal, 0 where it is none
	by            string            // whose calls are told apart
	users         map[string]string // names by number
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
	if p.live {
		b.WriteString("\x1b[H\x1b[2J")
	}
	p.table(&b, r, left)
	_, err := p.out.Write(b.Bytes())
	return err
}

func (p printer) table(out *bytes.Buffer, r watch.Report, left int) {
	notes := r.Notes()
	if room := p.height - len(notes) - 3; p.height > 0 && len(r.Rows) > max(room, 1) {
		left, r.Rows = left+len(r.Rows)-max(room, 1), r.Rows[:max(room, 1)]
	}
	owner := map[string]string{modes.EgressByCgroup: "CGROUP", modes.EgressByPod: "POD"}[p.by]
	rows := [][]string{{"HOST", "PORT", cmp.Or(owner, "USER"), "BY", "CONNS", "SENT", "RECEIVED", "NOW"}}
	for _, row := range r.Rows {
		rows = append(rows, escape.Texts([]string{row.Host, p.port(row), cmp.Or(row.OwnerName, row.Owner, "-"), row.By, p.conns(row), units.Bytes(row.Sent), units.Bytes(row.Received), units.Rate(row.Now)}))
	}
	writeColumns(out, rows, cmp.Or(p.width, defaultWidth))
	if left > 0 {
		fmt.Fprintf(out, "%d more rows (--top)\n", left)
	}
	for _, note := range notes {
		fmt.Fprintf(out, "%s\n", escape.Text(note))
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
