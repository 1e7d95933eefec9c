// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/modes"
)

func tableFlag() cli.Flag {
	return &cli.StringFlag{Name: "table", Value: modes.DefaultTable, Usage: "the nftables table, of family inet"}
}

// checkTable says what is wrong with the name that --table gives.
func checkTable(name string) error {
	if name == "" {
		return usageError{errors.New("--table: is empty (without the flag its default holds)")}
	}
	var wrong *modes.ConfigError
	if errors.As(modes.Check(modes.Config{Mode: modes.ModeNone, Table: name}), &wrong) {
		return usageError{fmt.Errorf("--table: %s", wrong.Detail())}
	}
	return nil
}

func drainFlag() cli.Flag {
	return &cli.DurationFlag{Name: "drain", Usage: "capture nothing more at once, and wait up to `TIME` for captured connections to end before removing"}
}

// drainTime is --drain, 0 without it.
func drainTime(cc *cli.Context) (time.Duration, error) {
	d := cc.Duration("drain")
	if cc.IsSet("drain") && d <= 0 {
		return 0, usageError{fmt.Errorf("--drain: %s is not a time to wait (want such as 30s)", d)}
	}
	return d, nil
}

func removeCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove everything weir created, and nothing else",
		Description: "Example: weir remove --pid 4711 --drain 30s\n\n" +
			"Captured connections do not outlive the rules: without --drain they are reset.\n" +
			"A drain that is interrupted leaves a table that captures nothing; weir remove\n" +
			"takes it away, weir apply captures again.",
		Flags: withCommon(tableFlag(), drainFlag()),
		Action: func(cc *cli.Context) error {
			table := cc.String("table")
			if err := checkTable(table); err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.remove(ctx, table) })
		},
	}
}

func (cmd *command) remove(ctx context.Context, table string) error {
	drain, err := drainTime(cmd.cc)
	if err != nil {
		return err
	}
	options := capture.Options{Drain: drain, Removing: cmd.noteReset}
	if drain > 0 {
		options.Removing = func(captured capture.Captured) {
			fmt.Fprintf(cmd.err, "note: nothing new is captured; waiting up to %s for %s to end\n", drain, captured)
		}
	}
	k, err := cmd.captureOfTable(table, options)
	if err != nil {
		return err
	}
	defer k.Close()
	r, err := k.Remove(ctx)
	cmd.tell(&config.File{}, r.Notes, r.Messages())
	if err != nil {
		return err
	}
	if drain > 0 && r.Reset > 0 {
		fmt.Fprintf(cmd.err, "note: the time was over: %s\n", wereReset(r.Reset))
	}
	return cmd.report(r)
}

// noteReset tells which connections a remove is about to reset.
func (cmd *command) noteReset(captured capture.Captured) {
	where := ""
	if cmd.namespace != "" {
		where = cmd.namespace + ": "
	}
	fmt.Fprintf(cmd.err, "note: %s%s will be reset (weir remove --drain 30s lets them end)\n", where, captured)
}

func wereReset(n int) string {
	if n == 1 {
		return "1 connection was reset"
	}
	return fmt.Sprintf("%d connections were reset", n)
}
