// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/show"
	"github.com/weir-mesh/weir/internal/tty"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Usage: "print what is live, lifted and readable, with each rule's reason and counters",
		Description: "Example: weir show --pid 4711\n\n" +
			"Chains stand in the order in which packets meet them. With a configuration it\n" +
			"is compared too. --foreign shows a table of another program's.",
		Flags: withCommon(append(configurationFlags(), foreignFlag(),
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, DisableDefaultText: true, Usage: "all elements of the sets"})...),
		Action: func(cc *cli.Context) error {
			c, given, err := optionalConfiguration(cc)
			if err != nil {
				return err
			}
			foreign, err := foreignTable(cc)
			switch {
			case err != nil:
				return err
			case cc.IsSet("foreign") && (given || c.Table != ""):
				return usageError{errors.New("--foreign shows a table that is not weir's, and takes no configuration")}
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error {
				if cc.IsSet("foreign") {
					return cmd.showForeign(ctx, foreign)
				}
				return cmd.show(ctx, c, given)
			})
		},
	}
}

func foreignFlag() cli.Flag {
	return &cli.StringFlag{Name: "foreign", Usage: "another program's table, as `\"FAMILY NAME\"`"}
}

// foreignTable is what --foreign names, the zero name without it.
func foreignTable(cc *cli.Context) (show.TableName, error) {
	if !cc.IsSet("foreign") {
		return show.TableName{}, nil
	}
	name, err := show.ParseTableName(cc.String("foreign"))
	if err != nil {
		return name, usageError{fmt.Errorf("--foreign: %w", err)}
	}
	return name, nil
}

func (cmd *command) show(ctx context.Context, c *config.File, given bool) error {
	open := func() (*capture.Capture, error) { return cmd.captureOfTable(c.TableName(), capture.Options{}) }
	if given {
		open = func() (*capture.Capture, error) { return cmd.capture(c, capture.Options{}) }
	}
	k, err := open()
	if err != nil {
		return err
	}
	defer k.Close()
	live, notices, err := k.Live(ctx)
	if err != nil {
		return err
	}
	v := show.Of(k.Table(), live)
	if v.Conflicts, _, err = k.Conflicts(ctx); err != nil {
		return err
	}
	if given {
		verdict, err := k.Verify(ctx)
		cmd.tell(c, verdict.Notes, nil)
		if err != nil {
			return cmd.failure(c, err)
		}
		v.Compare(verdict.Differences)
	}
	cmd.tell(c, nil, notices.Messages())
	return cmd.printView(v)
}

func (cmd *command) printView(v show.View) error {
	if cmd.cc.Bool("json") {
		return writeJSON(cmd.out, v)
	}
	return writeText(cmd.out, v.Text(tty.LookOf(cmd.out), cmd.cc.Bool("verbose")))
}

// showForeign shows another program's table.
func (cmd *command) showForeign(ctx context.Context, name show.TableName) error {
	cmd.sweepTraces(ctx)
	v, err := show.Foreign(ctx, cmd.target, name)
	if err != nil {
		return fmt.Errorf("show %w", err)
	}
	return cmd.printView(v)
}
