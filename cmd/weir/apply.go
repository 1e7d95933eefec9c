// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Usage:       "make the namespace capture what the configuration says, and prove it",
		Description: "Example: weir apply --config pod.yaml --pid 4711",
		Flags:       withCommon(append(configurationFlags(), hostNetworkFlag(), resetOpenFlag(), writeSysctlsFlag())...),
		Action: func(cc *cli.Context) error {
			c, err := checkedConfig(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.apply(ctx, c) })
		},
	}
}

func hostNetworkFlag() cli.Flag {
	return &cli.BoolFlag{Name: "host-network", DisableDefaultText: true, Usage: "apply even to the machine's own network namespace"}
}

func resetOpenFlag() cli.Flag {
	return &cli.BoolFlag{Name: "reset-open", DisableDefaultText: true, Usage: "let the first apply of conntrack: none reset the connections that are open"}
}

func writeSysctlsFlag() cli.Flag {
	return &cli.BoolFlag{Name: "write-sysctls", DisableDefaultText: true, Usage: "write the settings that the ruleset needs"}
}

func (cmd *command) apply(ctx context.Context, c *config.File) error {
	k, err := cmd.capture(c, capture.Options{HostNetwork: cmd.cc.Bool("host-network"), Removing: cmd.noteReset,
		ResetOpen: cmd.cc.Bool("reset-open"), WriteSysctls: cmd.cc.Bool("write-sysctls")})
	if err != nil {
		return err
	}
	defer k.Close()
	r, err := k.Apply(ctx)
	cmd.tell(c, r.Notes, r.Messages())
	if err != nil {
		return cmd.failure(c, err)
	}
	return cmd.report(r)
}

func (cmd *command) report(r capture.Report) error {
	cmd.result = string(r.Outcome)
	var err error
	if cmd.cc.Bool("json") {
		err = writeJSON(cmd.out, r)
	} else {
		err = printReport(cmd.out, r)
	}
	if err != nil {
		return fmt.Errorf("inet %s is %s, which could not be printed: %w", r.Table, r.Outcome, err)
	}
	return nil
}

func printReport(w io.Writer, r capture.Report) error {
	line := fmt.Sprintf("%s: inet %s", r.Outcome, r.Table)
	if r.State != "" {
		line += ", state " + r.State
	}
	if r.Kept > 0 {
		line += fmt.Sprintf(", open connections left as they are: %d", r.Kept)
	}
	_, err := fmt.Fprintf(w, "%s (read %s, commit %s, verify %s)\n", line, short(r.Read), short(r.Commit), short(r.Verify))
	return err
}

func short(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
