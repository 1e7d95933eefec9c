// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package clihelp writes the help of a program as wide as its reader's terminal is.
package clihelp

import (
	"bytes"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/internal/tty"
)

// Print is what the flag library asks for as cli.HelpPrinter. It loses errors, since the library takes none.
func Print(w io.Writer, template string, data any) {
	var text bytes.Buffer
	cli.HelpPrinterCustom(&text, template, data, nil)
	_ = Write(w, text.String())
}

// Write folds the lines of help to the terminal's width, and has its headings bold.
func Write(w io.Writer, text string) error {
	look := tty.LookOf(w)
	var shown strings.Builder
	for line := range strings.Lines(text) {
		style := term.Plain
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != ' ' {
			style = term.Bold
		}
		shown.WriteString(look.Paint(style, look.Fold(escape.Text(line))) + "\n")
	}
	_, err := io.WriteString(escape.Unwrap(w), shown.String()) // a net at the edge of the program would escape colours
	return err
}
