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
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/input"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "say which traffic changes fate between two configurations",
		ArgsUsage: "OLD NEW",
		Description: "Example: weir compare old.yaml new.yaml\n\n" +
			"It compares what becomes of every class of packets, not how it is written, and\n" +
			"gives an example of each class that changes. It exits 3 where any does. With\n" +
			"--live, one configuration is compared with what the namespace holds of its table.",
		Flags: withCommon(
			&cli.BoolFlag{Name: "live", DisableDefaultText: true, Usage: "what the namespace holds stands for OLD"},
			&cli.BoolFlag{Name: "markdown", DisableDefaultText: true, Usage: "print Markdown"},
			environmentFlag("else the pod has both families, and the names of /etc"),
			addressFlag(),
		),
		Action: func(cc *cli.Context) error {
			want := 2
			if cc.Bool("live") {
				want = 1
			}
			if cc.Args().Len() != want {
				return usageError{fmt.Errorf("compare takes two configurations, or one with --live; %d were given", cc.Args().Len())}
			}
			var configs []*config.File
			var errs []error
			for _, name := range cc.Args().Slice() {
				c, err := loadFile(cc, name)
				configs, errs = append(configs, c), append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return usageError{err}
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.compareFates(ctx, configs) })
		},
	}
}

// loadFile is the configuration in a file, checked.
func loadFile(cc *cli.Context, name string) (*config.File, error) {
	data, err := input.Read(cc.Context, name, cc.App.Reader, config.MaxSize)
	if err != nil {
		return nil, err
	}
	return config.Parse(input.Name(name), data)
}

func (cmd *command) compareFates(ctx context.Context, configs []*config.File) error {
	var compared []explain.Rules
	if cmd.cc.Bool("live") {
		live, err := cmd.liveRules(ctx, configs[0])
		if err != nil {
			return fmt.Errorf("compare --live: %w", err)
		}
		compared = append(compared, live)
	}
	var asked modes.Lookups
	for _, c := range configs {
		asked = asked.With(c.Lookups())
	}
	env, err := cmd.assumedEnvironment(ctx, asked)
	if err != nil {
		return err
	}
	for _, c := range configs {
		r, err := cmd.rulesIn(ctx, c, env)
		if err != nil {
			return err
		}
		compared = append(compared, r)
	}
	host, err := explain.ParsePod(cmd.cc.StringSlice("address")...)
	if err != nil {
		return wrongAddress(err)
	}
	changes, err := explain.Compare(host, compared[0], compared[1])
	if err != nil {
		return err
	}
	if err := printChanges(cmd.cc, changes); err != nil {
		return err
	}
	if len(changes) > 0 {
		return errDiffers
	}
	return nil
}

// liveRules are the rules that the namespace holds of a configuration's table.
func (cmd *command) liveRules(ctx context.Context, c *config.File) (explain.Rules, error) {
	k, err := cmd.captureOfTable(c.TableName(), capture.Options{})
	if err != nil {
		return explain.Rules{}, err
	}
	defer k.Close()
	live, notices, err := k.Live(ctx)
	if err != nil {
		return explain.Rules{}, err
	}
	cmd.tell(c, nil, notices.Messages())
	return explain.Rules{State: live.State, Listeners: modes.PortNames(c.Config)}, nil
}

// changeView is a change as programs read it.
type changeView struct {
	Who     string `json:"who"`
	Where   string `json:"where"`
	Before  string `json:"before"`
	After   string `json:"after"`
	Example string `json:"example"`
}

func printChanges(cc *cli.Context, changes []explain.Change) error {
	views := []changeView{}
	for _, c := range changes {
		views = append(views, changeView{c.From, c.To, c.Before, c.After, explain.PacketText(c.Example)})
	}
	if len(views) == 0 && !cc.Bool("json") {
		_, err := fmt.Fprintln(cc.App.Writer, "no traffic changes fate")
		return err
	}
	table := [][]string{{"who", "where to", "before", "after", "example"}}
	for _, v := range views {
		table = append(table, []string{v.Who, v.Where, v.Before, v.After, v.Example})
	}
	return printRows(cc, views, table, func(int) term.Style { return term.Plain })
}
