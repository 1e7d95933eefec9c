// SPDX-License-Identifier: Apache-2.0

//go:build linux

package report

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/egress/units"
	"github.com/weir-mesh/weir/internal/escape"
)

//go:embed page.html
var pageText string

const (
	maxColours = 7   // hosts of the drawing that have one of their own
	maxRows    = 500 // of a table
	maxInto    = 3   // hosts that an owner's row names
)

// page is what the template shows.
type page struct {
	From, To       string
	Reports        int
	Hosts, Conns   int
	Sent, Received string
	Largest        string // bytes of the largest bar
	Each           string // how long a bar is, "" where there is one alone
	Legend         []legend
	Bars           []bar
	Rows           []row
	Owners         []owner
	Left           int // rows that are not shown
	Notes          []string
	Evidence       []evidence
}

type legend struct {
	Colour int
	Host   string
	Bytes  string
}

// bar is a stretch of time; its parts stand above one another. All is in percent.
type bar struct {
	X, Width float64
	Parts    []part
}

type part struct {
	Colour    int
	Y, Height float64
	Title     string
}

type row struct {
	Host, By, Owners string
	Names            []string
	Port             string
	Conns            string
	Sent, Received   string
	Share            float64 // percent of all bytes
	Doubtful         bool
}

type owner struct {
	Name, Conns, Sent, Received, Into string
	Share                             float64
}

type evidence struct{ By, Means, Bytes string }

// Write reads reports, an object of JSON a line, and writes the page. The error may be [errEmpty].
func Write(out io.Writer, in io.Reader) error {
	h, err := read(in)
	if err != nil {
		return err
	}
	t, err := template.New("page").Funcs(template.FuncMap{"percent": percent}).Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(out, h.page())
}

func (h *history) page() page {
	const layout = "2006-01-02 15:04:05 MST"
	p := page{From: h.first.Time.UTC().Format(layout), To: h.last.Time.UTC().Format(layout), Reports: h.reports}
	var all, sent, received uint64
	hosts, byEvidence := map[string]uint64{}, map[string]uint64{}
	for _, r := range h.last.Rows {
		n := r.Sent + r.Received
		all, sent, received = all+n, sent+r.Sent, received+r.Received
		hosts[r.Name()] += n
		byEvidence[r.By] += n
		p.Conns += int(r.Conns)
	}
	p.Hosts, p.Sent, p.Received = len(hosts), units.Bytes(sent), units.Bytes(received)
	p.draw(h, most(hosts, maxColours), hosts)
	p.Rows = rowsOf(h.last.Rows, all)
	p.Owners = ownersOf(h.last.Rows, all)
	if p.Left = len(p.Rows) - maxRows; p.Left > 0 {
		p.Rows = p.Rows[:maxRows]
	}
	p.Evidence = evidenceOf(byEvidence)
	for _, note := range h.last.Notes() {
		p.Notes = append(p.Notes, safe(note))
	}
	if doubtful := doubtful(h.last.Rows); doubtful != "" {
		p.Notes = append(p.Notes, "resolvers' answers contradict names that clients gave: "+doubtful)
	}
	return p
}

// draw makes a bar of each bucket: of the hosts with most bytes by name, of the others together.
func (p *page) draw(h *history, top []string, totals map[string]uint64) {
	var largest uint64
	for _, b := range h.buckets {
		var sum uint64
		for _, n := range b.bytes {
			sum += n
		}
		largest = max(largest, sum)
	}
	var others uint64
	for host, n := range totals {
		if !slices.Contains(top, host) {
			others += n
		}
	}
	for i, host := range top {
		p.Legend = append(p.Legend, legend{i, safe(host), units.Bytes(totals[host])})
	}
	if others > 0 {
		p.Legend = append(p.Legend, legend{maxColours, fmt.Sprintf("%d others", len(totals)-len(top)), units.Bytes(others)})
	}
	p.Largest = units.Bytes(largest)
	if n := len(h.buckets); n > 1 {
		p.Each = short((h.buckets[n-1].until.Sub(h.buckets[0].until) / time.Duration(n-1)).Round(time.Second / 10))
	}
	if largest == 0 {
		return
	}
	const gap = 0.15 // of a bar's width
	width := 100 / float64(len(h.buckets))
	for i, b := range h.buckets {
		one := bar{X: (float64(i) + gap/2) * width, Width: width * (1 - gap)}
		at := b.until.UTC().Format(time.TimeOnly)
		y := 100.0
		add := func(colour int, host string, n uint64) {
			if n == 0 {
				return
			}
			height := 100 * float64(n) / float64(largest)
			y -= height
			one.Parts = append(one.Parts, part{colour, y, height, fmt.Sprintf("%s: %s until %s", safe(host), units.Bytes(n), at)})
		}
		rest := uint64(0)
		for host, n := range b.bytes {
			if !slices.Contains(top, host) {
				rest += n
			}
		}
		for colour, host := range top {
			add(colour, host, b.bytes[host])
		}
		add(maxColours, "others", rest)
		p.Bars = append(p.Bars, one)
	}
}

// short is a time as people write it: 4m, not 4m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func safe(text string) string { return escape.Text(text) }
