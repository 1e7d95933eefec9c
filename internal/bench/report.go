// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// report is all that was found.
type report struct {
	Machine     string         `json:"machine"`
	Processes   []processTable `json:"processes"`
	Connections []rateRow      `json:"connections"`
	Captures    []captureRow   `json:"captures"`
	Held        []heldRow      `json:"held"`
	Pods        []podsRow      `json:"pods"`
	Comparisons []comparison   `json:"comparisons"`
}

// processTable is what whole processes cost for one configuration.
type processTable struct {
	Configuration string       `json:"configuration"`
	Rounds        int          `json:"rounds"`
	Rows          []processRow `json:"rows"`
}

type processRow struct {
	What     string  `json:"what"`
	Programs int     `json:"programs"`
	Wall     summary `json:"wallMilliseconds"`
	CPU      summary `json:"cpuMilliseconds"`
	RSS      summary `json:"peakRSSMegabytes"`
	Small    bool    `json:"peakRSSIsLower,omitempty"`
}

func (r processRow) memory() string {
	if r.Small {
		return "     < " + short(r.RSS.High)
	}
	return r.RSS.String()
}

type rateRow struct {
	What string  `json:"what"`
	Rate summary `json:"perSecond"`
}

// A comparison is a ratio, or what has a unit, beside the bar of the design
// where there is one.
type comparison struct {
	What    string  `json:"what"`
	Unit    string  `json:"unit,omitempty"`
	Value   summary `json:"value"`
	Bar     float64 `json:"bar,omitempty"`
	AtLeast bool    `json:"atLeast,omitempty"` // the bar is a floor
}

func (r *report) compare(c ...comparison) { r.Comparisons = append(r.Comparisons, c...) }

// progress tells that something else is being measured.
func progress(what string) { fmt.Fprintf(os.Stderr, "measuring: %s\n", what) }

const explanation = `Medians, and quartiles in brackets. Contenders take turns, each in a clean namespace; a first round only
warms up. CPU is user and system time. Peak RSS is that of the largest process (less than some size
cannot be seen). The reference's own program is not run: counted are the programs that it runs, for IPv4
and IPv6 each, by iptables-nft and in turn. -save is run before, to compare, and after, to log; the probes
are -save, -save --version, and a rule added and deleted; where nothing has changed, -C for every rule.
The text for nft -f deletes the table first, as weir plan prints it. Ratios are of the same round. New
connections are opened, accepted and reset by one thread, and counted by the processor time that it takes.
Those at a rate that lasts are made by a client and a proxy that do nothing else, 120,000 before those that
count: connection tracking remembers each for two minutes. Of weir and of the Go program that does nothing
copies run, as they would be installed.
`

// print writes everything for a terminal.
func (r report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n\n%s", r.Machine, explanation)
	r.printFigures(t)
	r.printComparisons(t)
	return t.Flush() // which has the first error of all
}

// printFigures writes what was measured: a paragraph a table, whose first line is the header and whose others are
// indented, with tabs between the cells.
func (r report) printFigures(t io.Writer) {
	for _, p := range r.Processes {
		fmt.Fprintf(t, "\n%s, %d rounds\tprograms\twall ms\tCPU ms\tpeak RSS MB\n", p.Configuration, p.Rounds)
		for _, row := range p.Rows {
			fmt.Fprintf(t, "  %s\t%8d\t%s\t%s\t%s\n", row.What, row.Programs, row.Wall, row.CPU, row.memory())
		}
	}
	if len(r.Connections) > 0 {
		fmt.Fprintf(t, "\nnew connections, %d rounds of %d\tper second of CPU\n", rateRounds, connectionsAtATime)
	}
	for _, row := range r.Connections {
		fmt.Fprintf(t, "  %s\t%8.0f (%.0f-%.0f)\n", row.What, row.Rate.Median, row.Rate.Low, row.Rate.High)
	}
	r.printCaptures(t)
	if len(r.Pods) > 0 {
		fmt.Fprintf(t, "\npods of ambient mode, %d rounds\tpods\twall ms\tCPU ms a pod\tpeak RSS MB\tthreads\tdescriptors\n", podRounds)
	}
	for _, row := range r.Pods {
		fmt.Fprintf(t, "  weir ambient pod %s\t%4d\t%s\t%s\t%s\t%s\t%s\n", row.What, row.Pods, row.Wall, row.CPU, row.RSS, row.Threads, row.Descriptors)
	}
}

// printComparisons writes each bar with its verdict, and then the ratios that have none, as printFigures does.
func (r report) printComparisons(t io.Writer) {
	fmt.Fprint(t, "\nagainst the bars of the design\tthis run\tbar\tmet\n")
	for _, c := range r.Comparisons {
		if c.Bar != 0 {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", c.What, c.value(), c.bar(), c.met())
		}
	}
	fmt.Fprint(t, "\nratios besides\tthis run\n")
	for _, c := range r.Comparisons {
		if c.Bar == 0 {
			fmt.Fprintf(t, "  %s\t%s\n", c.What, c.value())
		}
	}
}

func (s summary) String() string {
	return fmt.Sprintf("%8s (%s-%s)", short(s.Median), short(s.Low), short(s.High))
}

// short is a number with three digits that count.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (c comparison) value() string {
	if c.Value.Low == c.Value.High { // it was not a measurement that varies
		return fmt.Sprintf("%8s %s", short(c.Value.Median), c.Unit)
	}
	text := c.Value.String()
	if c.Unit != "" {
		text += " " + c.Unit
	}
	return text
}

func (c comparison) bar() string {
	sign := "≤"
	if c.AtLeast {
		sign = "≥"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", sign, short(c.Bar), c.Unit))
}

func (c comparison) met() string {
	if c.isMet() {
		return "yes"
	}
	return "NO"
}

func (c comparison) isMet() bool {
	return c.Value.Median == c.Bar || c.Value.Median < c.Bar != c.AtLeast
}
