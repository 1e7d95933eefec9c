// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// text is the document in the form that the YAML reader takes without surprise:
// UTF-8 without a byte order mark, one kind of line end, and no tabs, which it
// counts as no column at all. Columns stay as they were.
func (d *document) text(data []byte) (string, bool) {
	if len(data) > MaxSize {
		d.problemf(d.source, "is longer than %d MiB", MaxSize>>20)
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	before := len(d.problems)
	isJSON := bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
	var b strings.Builder
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if !d.plain(line, number) {
			return "", false
		}
		content := bytes.TrimLeft(line, " \t\n")
		indent := line[:len(line)-len(content)]
		if tab := bytes.IndexByte(indent, '\t'); tab >= 0 && len(content) > 0 && content[0] != '#' && !isJSON {
			d.problemf(d.at(number, tab+1), "a tab indents this line (want spaces)")
		}
		if at := blocky(line); at >= 0 && len(data) > maxBlocky {
			d.problemf(d.at(number, utf8.RuneCount(line[:at])+1), "%q is read only in a document of at most %d KiB (want the words themselves, or quotes and a shorter document)", line[at], maxBlocky>>10)
			return "", false
		}
		b.Write(bytes.ReplaceAll(line, []byte("\t"), []byte(" ")))
	}
	return b.String(), len(d.problems) == before
}

// blocky is where a line has what no configuration needs and what the library
// takes time by the square of: the ends of a block text's lines, and the signs
// of a merge. It is -1 where there is none but in a comment.
func blocky(line []byte) int {
	at := bytes.IndexAny(line, "|><")
	if comment := bytes.IndexByte(line, '#'); comment >= 0 && comment < at && (comment == 0 || line[comment-1] == ' ' || line[comment-1] == '\t') {
		return -1
	}
	return at
}

// plain reports whether a line is text.
func (d *document) plain(line []byte, number int) bool {
	if !utf8.Valid(line) {
		d.problemf(d.at(number, 0), "is not UTF-8 text")
		return false
	}
	control := bytes.IndexFunc(line, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' || c == 0x7f })
	if control >= 0 {
		d.problemf(d.at(number, utf8.RuneCount(line[:control])+1), "holds a control character, %q", line[control])
		return false
	}
	return true
}
