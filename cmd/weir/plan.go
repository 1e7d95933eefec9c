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
	"github.com/weir-mesh/weir/internal/diagnose"
	"github.com/weir-mesh/weir/internal/problems"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Usage: "print the nft text and the routing that apply would make, and what differs from now",
		Description: "Example: weir plan --config pod.yaml\n\n" +
			"The output is a script that nft -f loads. It needs no privileges; without\n" +
			"them it is not compared with what is live.",
		Flags: withCommon(append(configurationFlags(), exitCodeFlag())...),
		Action: func(cc *cli.Context) error {
			c, err := checkedConfig(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.plan(ctx, c) })
		},
	}
}

func exitCodeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "exit-code", DisableDefaultText: true, Usage: "exit 3 where something differs from now"}
}

func (cmd *command) plan(ctx context.Context, c *config.File) error {
	cmd.result = planned
	k, err := cmd.capture(c, capture.Options{})
	if err != nil {
		return err
	}
	defer k.Close()
	p, err := k.Plan(ctx)
	cmd.tell(c, p.Notes, p.Messages())
	if err != nil {
		return cmd.failure(c, err)
	}
	if err := cmd.printPlan(p); err != nil {
		return err
	}
	if p.Uncompared != nil && cmd.cc.Bool("exit-code") {
		return fmt.Errorf("plan inet %s: %w", p.Table, p.Uncompared)
	}
	if len(p.Differences) > 0 && cmd.cc.Bool("exit-code") {
		return errDiffers
	}
	return nil
}

func (cmd *command) printPlan(p capture.Plan) error {
	w := cmd.out
	p.Uncompared = diagnose.WithPermit(p.Uncompared)
	if cmd.cc.Bool("json") {
		return writeJSON(w, p)
	}
	var text strings.Builder
	for _, r := range problems.List(p.Refusal) {
		fmt.Fprintf(&text, "# apply will refuse: %v\n", r)
	}
	text.WriteString(p.Script())
	switch {
	case p.Uncompared != nil:
		fmt.Fprintf(&text, "# not compared with what is live: %v\n", p.Uncompared)
	case len(p.Differences) == 0:
		text.WriteString("# nothing differs from now\n")
	default:
		text.WriteString("# what differs from now:\n")
	}
	for _, d := range p.Differences {
		text.WriteString("# " + strings.ReplaceAll(d.String(), "\n", "\n# ") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}
