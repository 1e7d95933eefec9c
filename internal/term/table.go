// SPDX-License-Identifier: Apache-2.0

package term

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Cell is a text of one line in a table, and how it stands out.
type Cell struct {
	Text  string
	Style Style
}

// Cells are plain cells.
func Cells(texts ...string) []Cell {
	out := make([]Cell, len(texts))
	for i, t := range texts {
		out[i].Text = t
	}
	return out
}

// Styled are the cells in a style.
func Styled(s Style, cells []Cell) []Cell {
	for i := range cells {
		cells[i].Style = s
	}
	return cells
}

// Columns are the widths of a table's columns.
type Columns struct {
	Look
	Indent int   // blanks before the first
	Gap    int   // blanks between two
	Widths []int // of each; the last has no end where the look has no width
}

// Table lays rows out in columns that are as wide as their texts, or narrower where the look has a width: then
// cells take several lines.
func (l Look) Table(indent, gap int, rows [][]Cell) string {
	var natural []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(natural) {
				natural = append(natural, 0)
			}
			natural[i] = max(natural[i], utf8.RuneCountInString(c.Text))
		}
	}
	columns := l.Columns(indent, gap, natural)
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(columns.Row(r))
	}
	return b.String()
}

// Columns are those of texts with these widths, made narrower where the look has a width that asks for it: the
// widest first.
func (l Look) Columns(indent, gap int, widths []int) Columns {
	c := Columns{Look: l, Indent: indent, Gap: gap, Widths: slices.Clone(widths)}
	if l.limit() == 0 {
		return c
	}
	room := l.limit() - indent - gap*(len(widths)-1)
	narrowest := make([]int, len(widths)) // columns, the narrowest first
	for i := range narrowest {
		narrowest[i] = i
	}
	slices.SortStableFunc(narrowest, func(a, b int) int { return cmp.Compare(widths[a], widths[b]) })
	for done, i := range narrowest {
		share := max(room/(len(widths)-done), 1)
		c.Widths[i] = min(widths[i], share)
		room -= c.Widths[i]
	}
	return c
}

// Row is a row of the table, of as many lines as its cells take, each with its end.
func (c Columns) Row(cells []Cell) string {
	lines := make([][]string, len(cells))
	height := 1
	for i, cell := range cells {
		lines[i] = []string{cell.Text}
		if c.limit() > 0 {
			lines[i] = wrap(cell.Text, c.Widths[i])
		}
		height = max(height, len(lines[i]))
	}
	var b strings.Builder
	for n := range height {
		blanks := c.Indent // before the next text
		for i, cell := range cells {
			text := ""
			if n < len(lines[i]) {
				text = lines[i][n]
			}
			if text != "" {
				b.WriteString(strings.Repeat(" ", blanks) + c.Paint(cell.Style, text))
				blanks = 0
			}
			blanks += max(c.Widths[i]-utf8.RuneCountInString(text), 0) + c.Gap
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// wrap breaks a text into lines of at most so many characters.
func wrap(text string, width int) []string {
	rest := []rune(text)
	var out []string
	for len(rest) > width {
		at := breakBefore(rest, 0, width)
		out = append(out, strings.TrimRight(string(rest[:at]), " "))
		for at < len(rest) && rest[at] == ' ' {
			at++
		}
		rest = rest[at:]
	}
	return append(out, string(rest))
}
