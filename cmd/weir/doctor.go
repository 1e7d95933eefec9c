// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/diagnose"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/internal/tty"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Usage: "check the kernel and the namespace: a line a check, with the remedy; exit 1 where one fails",
		Description: "Example: weir doctor --pid 4711\n\n" +
			"What modes need of nftables is tried for real, in a scratch namespace. With a\n" +
			"configuration its proxy's users are looked at, without one those of the rules in force.",
		Flags: withCommon(append(configurationFlags(),
			&cli.BoolFlag{Name: "traffic", DisableDefaultText: true, Usage: "send real connections through the configuration, in scratch namespaces"},
			&cli.StringFlag{Name: "report", Usage: "write what a bug report needs to a new `FILE`, without addresses: checks, rules, routing, listeners"},
			&cli.BoolFlag{Name: "here", DisableDefaultText: true, Usage: "try in the namespace itself: that may switch conntrack on there and load modules"})...),
		Action: func(cc *cli.Context) error {
			c, given, err := optionalConfiguration(cc)
			if err != nil {
				return err
			}
			if cc.Bool("traffic") && !given {
				return usageError{fmt.Errorf("--traffic: %w", errNoConfiguration)}
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error {
				cmd.table = c.TableName()
				checks, err := cmd.examine(ctx, c, given)
				if err != nil {
					return err
				}
				if cc.Bool("traffic") {
					more, err := cmd.traffic(ctx, c)
					if err != nil {
						return err
					}
					checks = append(checks, more...)
				}
				if file := cc.String("report"); file != "" {
					if err := cmd.writeReport(ctx, file, checks); err != nil {
						return err
					}
				}
				return cmd.reportChecks(checks)
			})
		},
	}
}

// examine checks the namespace. A configuration, where one is given, says who the proxy
// is and how it captures.
func (cmd *command) examine(ctx context.Context, c *config.File, given bool) ([]diagnose.Check, error) {
	cmd.sweepTraces(ctx)
	facts, err := diagnose.Examine(ctx, cmd.target, diagnose.Options{Table: cmd.table, Here: cmd.cc.Bool("here")})
	if err != nil || !given {
		return facts.Checks(), err
	}
	k, err := cmd.capture(c, capture.Options{})
	if err != nil {
		return nil, err
	}
	defer k.Close()
	want, notes, err := k.State(ctx)
	if err != nil {
		return nil, cmd.failure(c, err)
	}
	cmd.tell(c, notes, nil)
	facts.Configured(c.Config, want)
	return facts.Checks(), nil
}

// writeReport writes the namespace as a bug report tells of it to a file that is not there
// yet.
func (cmd *command) writeReport(ctx context.Context, name string, checks []diagnose.Check) error {
	text, err := diagnose.WriteReport(ctx, cmd.target, checks)
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// traffic sends real connections through the configuration.
func (cmd *command) traffic(ctx context.Context, c *config.File) ([]diagnose.Check, error) {
	env, err := cmd.assumedEnvironment(ctx, c.Lookups())
	if err != nil {
		return nil, err
	}
	want, err := explain.RulesOf(c.Config, env)
	if err != nil {
		return nil, cmd.failure(c, err)
	}
	return diagnose.Traffic(ctx, want)
}

func (cmd *command) reportChecks(checks []diagnose.Check) error {
	failures := 0
	for _, c := range checks {
		if c.Status == diagnose.Failed {
			failures++
		}
	}
	var err error
	if cmd.cc.Bool("json") {
		err = writeJSON(cmd.out, map[string]any{"failed": failures, "checks": checks})
	} else {
		err = printChecks(cmd.out, checks)
	}
	switch {
	case err != nil:
		return err
	case failures == 1:
		return errors.New("doctor: one check failed")
	case failures > 1:
		return fmt.Errorf("doctor: %d checks failed", failures)
	}
	return nil
}

func checkStyle(s diagnose.Status) term.Style {
	switch s {
	case diagnose.Passed:
		return term.Green
	case diagnose.Failed:
		return term.Red
	}
	return term.Yellow
}

func printChecks(w io.Writer, checks []diagnose.Check) error {
	var rows [][]term.Cell
	for _, c := range checks {
		lines := strings.Split(escape.Lines(c.Finding), "\n")
		rows = append(rows, []term.Cell{{Text: string(c.Status), Style: checkStyle(c.Status)}, {Text: escape.Text(c.Name)}, {Text: lines[0]}})
		for _, l := range lines[1:] {
			rows = append(rows, term.Cells("", "", l))
		}
		if c.Remedy != "" {
			rows = append(rows, term.Cells("", "", "remedy: "+escape.Text(c.Remedy)))
		}
	}
	return writeText(w, tty.LookOf(w).Table(0, 2, rows))
}
