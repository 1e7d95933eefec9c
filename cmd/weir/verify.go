// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/internal/tty"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Usage: "compare the namespace with the configuration or, without one, with what weir wrote; exit 3 where they differ",
		Description: "Example: weir verify --config pod.yaml --wait 30s\n\n" +
			"Without a configuration the tag that an apply leaves behind tells which chains,\n" +
			"sets and routes changed since, but not how.",
		Flags: withCommon(append(configurationFlags(), waitFlag())...),
		Action: func(cc *cli.Context) error {
			c, given, err := optionalConfiguration(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error {
				if given {
					return cmd.verifyConfiguration(ctx, c)
				}
				return cmd.verifyTable(ctx, c)
			})
		},
	}
}

func waitFlag() cli.Flag {
	return &cli.DurationFlag{Name: "wait", Usage: "wait up to `TIME` for the namespace to be as it should"}
}

// verifyConfiguration compares with a configuration, verifyTable with what was
// written.
func (cmd *command) verifyConfiguration(ctx context.Context, c *config.File) error {
	k, err := cmd.capture(c, capture.Options{Conflicts: true})
	if err != nil {
		return err
	}
	return cmd.verify(ctx, c, k)
}

func (cmd *command) verifyTable(ctx context.Context, c *config.File) error {
	k, err := cmd.captureOfTable(c.TableName(), capture.Options{Conflicts: true})
	if err != nil {
		return err
	}
	return cmd.verify(ctx, c, k)
}

func (cmd *command) verify(ctx context.Context, c *config.File, k *capture.Capture) error {
	defer k.Close()
	v, err := k.Await(ctx, cmd.cc.Duration("wait"))
	cmd.tell(c, v.Notes, v.Messages())
	if err != nil {
		return cmd.failure(c, err)
	}
	return cmd.verdict(v)
}

func (cmd *command) verdict(v capture.Verdict) error {
	cmd.result = clean
	if !v.Clean() {
		cmd.result = differs
	}
	w := cmd.out
	if cmd.cc.Bool("json") {
		if err := writeJSON(w, v); err != nil {
			return err
		}
	} else if err := printVerdict(w, v); err != nil {
		return err
	}
	if !v.Clean() {
		return errDiffers
	}
	return nil
}

func printVerdict(w io.Writer, v capture.Verdict) error {
	look := tty.LookOf(w)
	if v.Clean() {
		return writeText(w, look.Paint(term.Green, "clean")+": inet "+v.Table+"\n")
	}
	for _, d := range v.Differences {
		where, more, _ := strings.Cut(escape.Lines(d.String()), "\n")
		text := look.Fold(fmt.Sprintf("verify inet %s: %s", v.Table, where))
		for line := range strings.Lines(more) {
			text += "\n" + look.Paint(differenceStyle(line), look.Fold(strings.TrimSuffix(line, "\n")))
		}
		if err := writeText(w, text+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// differenceStyle is that of a line which says what is wanted, or what is there.
func differenceStyle(line string) term.Style {
	switch {
	case strings.HasPrefix(line, "  want "):
		return term.Green
	case strings.HasPrefix(line, "  have "):
		return term.Red
	}
	return term.Plain
}
