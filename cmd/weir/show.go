//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/nft"
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
			family, name, err := foreignTable(cc)
			switch {
			case err != nil:
				return err
			case name != "" && (given || c.Table != ""):
				return usageError{errors.New("--foreign shows a table that is not weir's, and takes no configuration")}
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error {
				if err := cmd.connect(ctx); err != nil {
					return err
				}
				if name != "" {
					return cmd.showForeign(ctx, family, name)
				}
				return cmd.show(ctx, c, given)
			})
		},
	}
}

func foreignFlag() cli.Flag {
	return &cli.StringFlag{Name: "foreign", Usage: "another program's table, as `\"FAMILY NAME\"`"}
}

// foreignTable is what --foreign names, two empty words without it.
func foreignTable(cc *cli.Context) (family, name string, err error) {
	if !cc.IsSet("foreign") {
		return "", "", nil
	}
	words := strings.Fields(cc.String("foreign"))
	if len(words) != 2 {
		return "", "", usageError{fmt.Errorf("--foreign: %q is no table (want a family and a name, such as \"ip kube-proxy\")", cc.String("foreign"))}
	}
	return words[0], words[1], nil
}

func (cmd *command) show(ctx context.Context, c *config.File, given bool) error {
	cmd.table = c.TableName()
	live, err := cmd.conn.Read(ctx, cmd.table)
	if err != nil {
		return fmt.Errorf("show inet %s: %w", cmd.table, err)
	}
	v := newView(cmd.table, live)
	said := capture.Notices{Applying: live.Applying}
	if given {
		k, err := cmd.capture(c, capture.Options{})
		if err != nil {
			return err
		}
		defer k.Close()
		verdict, err := k.Verify(ctx)
		cmd.tell(c, verdict.Notes, nil)
		if err != nil {
			return cmd.failure(c, err)
		}
		v.Configuration = &agreement{Same: verdict.Clean(), Differences: differences(verdict.Differences)}
	}
	cmd.tell(c, nil, said.Messages())
	return cmd.printView(v)
}

func (cmd *command) printView(v view) error {
	if cmd.cc.Bool("json") {
		return writeJSON(cmd.out, v)
	}
	return v.print(cmd.out, cmd.cc.Bool("verbose"))
}

// showForeign shows a table of another's.
func (cmd *command) showForeign(ctx context.Context, family, name string) error {
	ruleset, err := cmd.conn.RulesetWith(ctx, elementsOf(family, name))
	if err != nil {
		return fmt.Errorf("show %s %s: %w", escape.Text(family), escape.Text(name), err)
	}
	t := ruleset.Find(family, name)
	if t == nil {
		return fmt.Errorf("show %s %s: there is no such table%s", escape.Text(family), escape.Text(name), thereAre(ruleset))
	}
	v := emptyView(name)
	v.Family, v.Present = family, true
	v.fill(t.Table)
	return cmd.printView(v)
}

// elementsOf has the elements of one table's sets read.
func elementsOf(family, name string) func(*nft.LiveTable) bool {
	return func(t *nft.LiveTable) bool { return t.Family == family && t.Name == name }
}

func thereAre(r *nft.Ruleset) string {
	var titles []string
	for _, t := range r.Tables {
		titles = append(titles, t.Title())
	}
	if len(titles) == 0 {
		return ""
	}
	return " (there are: " + strings.Join(titles, ", ") + ")"
}
