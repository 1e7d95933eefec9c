// SPDX-License-Identifier: Apache-2.0

// Package escape writes text from outside (names in a kernel, comments, file
// names, words of a command line) so that it stays one cell of one line and
// cannot steer a terminal. It knows nothing of where the text comes from.
package escape

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is the text with everything escaped, as in a Go string, that is not
// visible where it stands: control, format and bidirectional characters, new
// lines, tabs, separators, blanks other than a space, and invalid UTF-8. A
// backslash stays as it is, so that to escape twice is to escape once.
func Text(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	marks := maxMarks // a mark at the start would join what stands before the text
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		if marks > maxMarks || !visible(r, n) {
			writeEscaped(&b, s[i:i+n], r)
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// Texts are the texts escaped, in a slice of their own.
func Texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = Text(s)
	}
	return out
}

// Row is a line of tab-separated cells.
func Row(cells ...string) string { return strings.Join(Texts(cells), "\t") + "\n" }

// Lines escapes text that has lines and columns of its own: its new lines and
// tabs stay.
func Lines(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for len(s) > 0 {
		i := strings.IndexAny(s, "\n\t")
		if i < 0 {
			b.WriteString(Text(s))
			break
		}
		b.WriteString(Text(s[:i]))
		b.WriteByte(s[i])
		s = s[i+1:]
	}
	return b.String()
}

// JSON escapes a JSON document as JSON has it: what it says stays the same.
func JSON(document []byte) []byte {
	if plain(document) {
		return document
	}
	var b strings.Builder
	b.Grow(len(document) + 16)
	for i := 0; i < len(document); {
		r, n := utf8.DecodeRune(document[i:])
		switch {
		case r == '\n' || visible(r, n):
			b.Write(document[i : i+n])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			writeHex(&b, `\u`, uint64(high), 4)
			writeHex(&b, `\u`, uint64(low), 4)
		default:
			writeHex(&b, `\u`, uint64(r), 4)
		}
		i += n
	}
	return []byte(b.String())
}

// maxMarks is how many combining marks a character may have: a stack of them
// covers the lines above.
const maxMarks = 3

// plain reports whether the text is ASCII that can be seen, which most is.
func plain[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// visible reports whether a character, of n bytes, is seen and stays in its
// place.
func visible(r rune, n int) bool {
	switch {
	case r == utf8.RuneError && n <= 1:
		return false
	case !strconv.IsPrint(r), r == brailleBlank:
		return false
	}
	return !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

const brailleBlank = '\u2800' // a symbol, and nothing is seen of it

func writeEscaped(b *strings.Builder, raw string, r rune) {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		writeHex(b, `\x`, uint64(raw[0]), 2)
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\t':
		b.WriteString(`\t`)
	case r == '\r':
		b.WriteString(`\r`)
	case r < utf8.RuneSelf:
		writeHex(b, `\x`, uint64(r), 2)
	case r > 0xffff:
		writeHex(b, `\U`, uint64(r), 8)
	default:
		writeHex(b, `\u`, uint64(r), 4)
	}
}

func writeHex(b *strings.Builder, prefix string, n uint64, digits int) {
	text := strconv.FormatUint(n, 16)
	b.WriteString(prefix)
	b.WriteString("0000000"[:max(digits-len(text), 0)])
	b.WriteString(text)
}

// Writer is the net at the edge of a program: it escapes all but new lines and
// tabs, which are the program's own by then. Text that holds what others named
// goes through [Text] before.
type Writer struct{ io.Writer }

// Write writes the text escaped, and reports its own length.
func (w Writer) Write(text []byte) (int, error) {
	out := text
	if !plain(bytes.TrimRight(text, "\n")) {
		out = []byte(Lines(string(text)))
	}
	if _, err := w.Writer.Write(out); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Unwrap is the writer behind w where that is a net, else w itself: who asks
// whether it is a terminal means that one.
func Unwrap(w io.Writer) io.Writer {
	if net, ok := w.(Writer); ok {
		return net.Writer
	}
	return w
}
