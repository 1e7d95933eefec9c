// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
)

// printer prints reports.
type printer struct {
	out   io.Writer
	top   int
	json  bool
	live  bool              // each report takes the place of the last, on a terminal
	by    string            // whose calls are told apart
	users map[string]string // names by number
}

func (p printer) print(r watch.Report) error {
	left := 0
	if p.top > 0 && len(r.Rows) > p.top {
		left, r.Rows = len(r.Rows)-p.top, r.Rows[:p.top]
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
	if err := p.table(&b, r, left); err != nil {
		return err
	}
	_, err := p.out.Write(b.Bytes())
	return err
}

const maxHost = 48 // columns of a host's name: a table of 120 columns holds all

func (p printer) table(out io.Writer, r watch.Report, left int) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	owner := map[string]string{modes.EgressByCgroup: "CGROUP", modes.EgressByPod: "POD"}[p.by]
	fmt.Fprintf(w, "HOST\tPORT\t%s\tBY\tCONNS\tSENT\tRECEIVED\tNOW\n", cmp.Or(owner, "USER"))
	for _, row := range r.Rows {
		fmt.Fprint(w, escape.Row(shortened(row.Host), p.port(row), p.owner(row.Owner), row.By, p.conns(row), size(row.Sent), size(row.Received), rate(row.Now)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, note := range notes(r, left) {
		fmt.Fprintf(out, "%s\n", escape.Text(note))
	}
	return nil
}

// notes say what the rows do not hold.
func notes(r watch.Report, left int) (out []string) {
	add := func(n uint64, text string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, text))
		}
	}
	add(uint64(left), "more rows (--top)")
	add(r.Lost, "copies of packets were lost: names may be missing, bytes are not")
	add(r.Incomplete, "ClientHellos or DNS messages were not copied whole: no name by them")
	add(r.Unasked, "DNS answers were not asked for: not believed")
	add(r.Overflow, "packets are counted for no host: a set is full (watch.size)")
	add(r.Hellos, "ClientHellos are copied in part: a set is full")
	if r.Unheard {
		out = append(out, "the end of some connections was not heard of: their bytes stay with the address")
	}
	for _, w := range r.Wrong {
		out = append(out, "not counted: "+w)
	}
	for _, d := range r.Drift {
		out = append(out, "the table is not as it was written: "+d)
	}
	return out
}

func shortened(host string) string {
	if len(host) <= maxHost {
		return host
	}
	return host[:maxHost/2] + "..." + host[len(host)-maxHost/2+3:]
}

func (p printer) port(row watch.Row) string {
	if row.Proto == "udp" {
		return fmt.Sprintf("%d/udp", row.Port)
	}
	return fmt.Sprint(row.Port)
}

func (p printer) owner(owner string) string {
	if name := p.users[owner]; name != "" {
		return name
	}
	if owner == "" {
		return "-"
	}
	return owner
}

func (p printer) conns(row watch.Row) string {
	if row.Proto == "udp" {
		return "-"
	}
	return fmt.Sprint(row.Conns)
}

// size is a number of bytes in words.
func size(n uint64) string { return scaled(float64(n), "B", "kB", "MB", "GB", "TB") }

func rate(n uint64) string {
	if n == 0 {
		return ""
	}
	return scaled(float64(n), "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")
}

func scaled(n float64, units ...string) string {
	at := 0
	for n >= 999.5 && at < len(units)-1 {
		n, at = n/1000, at+1
	}
	if at == 0 || n >= 99.95 {
		return fmt.Sprintf("%.0f %s", n, units[at])
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") + " " + units[at]
}
