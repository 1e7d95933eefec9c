package main

import (
	"bytes"
	"io"
	"strings"
	"unicode"
)

// visible writes text without what steers a terminal, which the names and comments of
// other programs may hold.
type visible struct{ io.Writer }

func (v visible) Write(text []byte) (int, error) {
	if _, err := v.Writer.Write(bytes.Map(shown, text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// inSight is the text as visible writes it.
func inSight(text string) string { return strings.Map(shown, text) }

func shown(r rune) rune {
	if unicode.IsControl(r) && r != '\n' && r != '\t' {
		return unicode.ReplacementChar
	}
	return r
}
