package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
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

func removeCommand() *cli.Command {
	return &cli.Command{
		Usage:       "take out the table, rules, routes and addresses of ours, and nothing of anyone else's",
		Description: "Example: weir remove --pid 4711",
		Flags:       withCommon(tableFlag()),
		Action: func(cc *cli.Context) error {
			table := cc.String("table")
			if err := checkTable(table); err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.remove(ctx, table) })
		},
	}
}

func (j *job) remove(ctx context.Context, table string) error {
	j.table = table
	if err := j.connect(ctx); err != nil {
		return err
	}
	result, err := j.session().Remove(ctx)
	if err != nil {
		return fmt.Errorf("remove inet %s: %w", j.table, err)
	}
	return j.report(rules.State{}, result)
}
