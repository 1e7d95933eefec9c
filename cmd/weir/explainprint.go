// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/show"
	"github.com/weir-mesh/weir/internal/tty"
)

// printAnswers prints what becomes of each packet; an unknown fate is a failure.
func printAnswers(cc *cli.Context, x *explain.Explainer, packets []explain.Packet) error {
	unknown := 0
	explained := func(p explain.Packet) []explain.Answer { return []explain.Answer{x.Explain(p)} }
	if ownerUnsaid(cc) {
		explained = x.ByOwner
	}
	for _, p := range packets {
		for _, a := range explained(p) {
			if a.IsUnknown() {
				unknown++
			}
			if err := printAnswer(cc, a); err != nil {
				return err
			}
		}
	}
	if unknown > 0 {
		return toldError{fmt.Errorf("the fate of %d packets is unknown from here", unknown)}
	}
	return nil
}

// printAnswer writes an answer in the form that the flags ask for.
func printAnswer(cc *cli.Context, a explain.Answer) error {
	w := cc.App.Writer
	switch {
	case cc.Bool("json"):
		return writeJSONLine(w, a)
	case cc.Bool("markdown"):
		return writeText(w, show.MarkdownAnswer(a))
	}
	return writeText(w, show.Answer(a, tty.LookOf(w)))
}

// writeText writes what was escaped by its maker: the net at the edge of the program would escape colours.
func writeText(w io.Writer, text string) error {
	_, err := io.WriteString(escape.Unwrap(w), text)
	return err
}
