// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strings"
)

// page is the report as the manual has it: where it was measured, each bar with its verdict, and all figures.
func (r report) page() string {
	var b strings.Builder
	missed := 0
	for _, c := range r.Comparisons {
		if c.Bar != 0 && !c.isMet() {
			missed++
		}
	}
	fmt.Fprintf(&b, "# Performance\n\n`make bench` wrote this page; nothing in it is written by hand.\n\nMeasured on: %s.\n\n", r.Machine)
	fmt.Fprintf(&b, "%s\nOf the bars below, %d are missed.\n", explanation, missed)
	var comparisons, figures bytes.Buffer
	r.printComparisons(&comparisons)
	r.printFigures(&figures)
	b.WriteString(tables(comparisons.String()) + "\n## All figures\n" + tables(figures.String()))
	return b.String()
}

// tables turns paragraphs of tab-separated lines, of which the first is the header, into tables of Markdown.
func tables(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), "|", `\|`), "\t")
		for i, c := range cells {
			cells[i] = strings.TrimSpace(c)
		}
		switch row := "| " + strings.Join(cells, " | ") + " |\n"; {
		case line == "\n":
			b.WriteString(line)
		case strings.HasPrefix(line, " "):
			b.WriteString(row)
		default:
			b.WriteString(row + "|" + strings.Repeat(" --- |", len(cells)) + "\n")
		}
	}
	return b.String()
}
