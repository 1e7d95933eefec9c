// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/term"
	"golang.org/x/sys/unix"
)

const (
	defaultWidth = 120 // columns, where the output is not a terminal
	leastColumn  = 10  // of what is cut to fit
	leastHost    = 24  // below it hosts are hard to tell apart
	hostColumn   = 0
	ownerColumn  = 2
	byColumn     = 3
	connsColumn  = 4
)

// writeColumns aligns rows, of which the first is the heading. Where they are wider than the look they stand closer, CONNS
// goes, and hosts and owners are cut, in the middle of their words: both ends of a name tell more than its middle.
func writeColumns(out *bytes.Buffer, rows [][]string, look term.Look) {
	widths, gap := fitted(rows, look.Width)
	if whole := widest(rows); widths[hostColumn] < min(whole[hostColumn], leastHost) {
		for i := range rows {
			rows[i] = slices.Delete(slices.Clone(rows[i]), connsColumn, connsColumn+1)
		}
		widths, gap = fitted(rows, look.Width)
	}
	for i, row := range rows {
		line, blanks := "", 0
		for column, cell := range row {
			cell = cut(cell, widths[column])
			line += strings.Repeat(" ", blanks) + look.Paint(styleOf(i, column, cell), cell)
			blanks = widths[column] - utf8.RuneCountInString(cell) + gap
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// styleOf has the heading stand out, and evidence that is contradicted.
func styleOf(row, column int, cell string) term.Style {
	switch {
	case row == 0:
		return term.Bold
	case column == byColumn && strings.HasSuffix(cell, watch.Contradicted):
		return term.Red
	}
	return term.Plain
}

// fitted are the widths of columns and the gap between them, in a line of that width.
func fitted(rows [][]string, width int) (widths []int, gap int) {
	widths, gap = widest(rows), 2
	total := func() (n int) {
		for _, w := range widths {
			n += w + gap
		}
		return n - gap
	}
	if total() > width {
		gap = 1
	}
	for total() > width {
		i := hostColumn
		if widths[ownerColumn] > widths[hostColumn] {
			i = ownerColumn
		}
		if widths[i] <= leastColumn {
			break
		}
		widths[i]--
	}
	return widths, gap
}

func widest(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func cut(text string, width int) string {
	all := []rune(text)
	if len(all) <= width {
		return text
	}
	const dots = "..."
	rest := width - len(dots)
	return string(all[:rest/2]) + dots + string(all[len(all)-(rest-rest/2):])
}

// terminalHeight is how many lines the terminal has, zero where f is none.
func terminalHeight(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}
