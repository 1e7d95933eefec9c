// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package tty knows whether a person reads what is written, and how wide that person's terminal is. Of what is no
// terminal nothing is asked but that.
package tty

import (
	"io"
	"os"

	"github.com/weir-mesh/weir/internal/term"
	"golang.org/x/sys/unix"
)

// IsTerminal reports whether what is written there, escaped or not, appears on a
// terminal.
func IsTerminal(w io.Writer) bool {
	fd, ok := descriptor(w)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

func descriptor(w io.Writer) (int, bool) {
	switch f := bare(w).(type) {
	case above:
		return descriptor(f.Writer)
	case interface{ Fd() uintptr }:
		return int(f.Fd()), true
	}
	return 0, false
}

// LookOf is how text is laid out there: in the terminal's width, which is 80 characters where it does not know its
// own, and in colours (NO_COLOR, see no-color.org); the zero look where it is no terminal.
func LookOf(w io.Writer) term.Look {
	if !IsTerminal(w) {
		return term.Look{}
	}
	fd, _ := descriptor(w)
	look := term.Look{Width: 80, Colours: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		look.Width = int(size.Col)
	}
	return look
}
