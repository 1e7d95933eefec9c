// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tty

import (
	"io"

	"github.com/weir-mesh/weir/internal/escape"
)

// Folded is a writer of messages: on a terminal each line is broken between words where it is longer than the terminal
// is wide. Each write must end with a line. Where w is no terminal it is w.
func Folded(w io.Writer) io.Writer {
	if !IsTerminal(w) {
		return w
	}
	return folded{w}
}

type folded struct{ io.Writer }

// Write reports the text's own length. The terminal's width is asked for each time, since it may change.
func (f folded) Write(text []byte) (int, error) {
	if _, err := io.WriteString(f.Writer, LookOf(f.Writer).FoldLines(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// bare is the writer behind nets and folds.
func bare(w io.Writer) io.Writer {
	if f, ok := escape.Unwrap(w).(folded); ok {
		return f.Writer
	}
	return escape.Unwrap(w)
}
