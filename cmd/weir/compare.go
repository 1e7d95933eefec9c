//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
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
	data, err := readInput(cc.Context, name, cc.App.Reader)
	if err != nil {
		return nil, err
	}
	return config.Parse(inputName(name), data)
}

func (cmd *command) compareFates(ctx context.Context, configs []*config.File) error {
	var states []rules.State
	if cmd.cc.Bool("live") {
		live, err := cmd.liveState(ctx, configs[0].TableName())
		if err != nil {
			return fmt.Errorf("compare --live: %w", err)
		}
		states = append(states, live)
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
		s, err := cmd.wanted(c, env)
		if err != nil {
			return err
		}
		cmd.notesPrinted = false
		states = append(states, s)
	}
	host, err := assumedHost(cmd.cc)
	if err != nil {
		return err
	}
	before := explain.Rules{State: states[0], Listeners: modes.PortNames(configs[0].Config)}
	after := explain.Rules{State: states[1], Listeners: modes.PortNames(configs[len(configs)-1].Config)}
	changes, err := explain.Compare(host, before, after)
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

func (cmd *command) liveState(ctx context.Context, table string) (rules.State, error) {
	if err := cmd.connect(ctx); err != nil {
		return rules.State{}, err
	}
	live, err := cmd.conn.Read(ctx, table)
	if err != nil {
		return rules.State{}, err
	}
	return live.State, nil
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
	return printRows(cc, views, table)
}
