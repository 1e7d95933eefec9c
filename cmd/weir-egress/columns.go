// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	defaultWidth = 120 // columns, where the output is not a terminal
	columnGap    = 2
	leastColumn  = 10 // of what is cut to fit
	hostColumn   = 0
	ownerColumn  = 2
)

// writeColumns aligns rows. Where they are wider than width the columns of hosts and owners are cut, in the middle of
// their words: both ends of a name tell more than its middle.
func writeColumns(out *bytes.Buffer, rows [][]string, width int) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := columnGap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > width; total-- {
		i := hostColumn
		if widths[ownerColumn] > widths[hostColumn] {
			i = ownerColumn
		}
		if widths[i] <= leastColumn {
			break
		}
		widths[i]--
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			cell = cut(cell, widths[i])
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+columnGap))
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
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

// terminalSize is that of the terminal, zero where f is none.
func terminalSize(f *os.File) (width, height int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
