// SPDX-License-Identifier: Apache-2.0

package term

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Look is how text is laid out for a reader. The zero value is for programs: lines of any length, no colours.
type Look struct {
	Width   int  // characters of a line, 0 for any number
	Colours bool // by the escape sequences of ECMA-48
}

// Style is how a text stands out.
type Style int

// Styles. Green is for what is captured or as it should be, Yellow for what is left alone, Red for what fails.
const (
	Plain Style = iota
	Bold
	Faint
	Green
	Yellow
	Red
)

var sgr = [...]string{Bold: "1", Faint: "2", Green: "32", Yellow: "33", Red: "31"}

// Paint is the text in a style, as it is where the look has no colours. The text must have been escaped.
func (l Look) Paint(s Style, text string) string {
	if !l.Colours || s == Plain || text == "" {
		return text
	}
	return "\x1b[" + sgr[s] + "m" + text + "\x1b[0m"
}

// minWidth is the shortest line that text is laid out for.
const minWidth = 40

// limit is how many characters a line may have, 0 for any number.
func (l Look) limit() int {
	if l.Width == 0 {
		return 0
	}
	return max(l.Width, minWidth)
}

// Fold breaks a line that is longer than the width. What follows the break begins below the line's last column,
// which two blanks set off, or below its first character where that leaves less than half of the width.
func (l Look) Fold(line string) string {
	limit := l.limit()
	if limit == 0 || utf8.RuneCountInString(line) <= limit {
		return line
	}
	rest := []rune(line)
	hang := lastColumn(rest, limit/2)
	indent := []rune(strings.Repeat(" ", hang))
	var b strings.Builder
	for len(rest) > limit {
		at := breakBefore(rest, hang, limit)
		b.WriteString(strings.TrimRight(string(rest[:at]), " ") + "\n")
		for at < len(rest) && rest[at] == ' ' {
			at++
		}
		rest = append(append([]rune{}, indent...), rest[at:]...)
	}
	return b.String() + string(rest)
}

// FoldLines is Fold for each line of a text.
func (l Look) FoldLines(text string) string {
	if l.Width == 0 {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = l.Fold(line)
	}
	return strings.Join(lines, "\n")
}

// lastColumn is where the last column of a line begins that does so before most, else where its text begins.
func lastColumn(line []rune, most int) int {
	first := 0
	for first < len(line) && line[first] == ' ' {
		first++
	}
	column := min(first, most)
	for i := first + 2; i < min(len(line), most); i++ {
		if line[i] != ' ' && line[i-1] == ' ' && line[i-2] == ' ' {
			column = i
		}
	}
	return column
}

// breakBefore is where a line of more than limit characters is broken: at a blank after hang, else after a character that
// separates parts of a word, else at the limit.
func breakBefore(line []rune, hang, limit int) int {
	for i := limit; i > hang; i-- {
		if line[i] == ' ' {
			return i
		}
	}
	for i := limit; i > hang+1; i-- {
		if strings.ContainsRune(",/:;|-", line[i-1]) {
			return i
		}
	}
	for i := limit; i > hang+1; i-- { // not between a letter and its marks
		if !unicode.Is(unicode.M, line[i]) {
			return i
		}
	}
	return limit
}
