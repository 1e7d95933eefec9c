package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

func tableFlag() cli.Flag {
	return &cli.StringFlag{Name: "table", Value: modes.DefaultTable, Usage: "the nftables table, of family inet"}
}

func removeCommand() *cli.Command {
	return &cli.Command{
		Name:        "remove",
		Usage:       "take out the table, rules, routes and addresses of ours, and nothing of anyone else's",
		Description: "Example: weir remove --pid 4711",
		Flags:       withCommon(tableFlag()),
		Action: func(cc *cli.Context) error {
			j, ctx, cancel, err := start(cc)
			if err != nil {
				return err
			}
			defer cancel()
			defer j.close()
			if err := j.connect(); err != nil {
				return err
			}
			j.table = cc.String("table")
			result, err := j.session().Remove(ctx)
			if err != nil {
				return fmt.Errorf("remove inet %s: %w", j.table, err)
			}
			return j.report(rules.State{}, result)
		},
	}
}
