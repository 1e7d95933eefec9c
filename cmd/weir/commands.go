// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/term"
)

// named is a command under its names, not made yet.
type named struct {
	names []string
	make  func() *cli.Command
}

func everyCommand() []named {
	return []named{
		{[]string{"plan"}, planCommand},
		{[]string{"apply"}, applyCommand},
		{[]string{"verify"}, verifyCommand},
		{[]string{"remove"}, removeCommand},
		{[]string{"show"}, showCommand},
		{[]string{"explain"}, explainCommand},
		{[]string{"graph"}, graphCommand},
		{[]string{"compare"}, compareCommand},
		{[]string{"ambient"}, ambientCommand},
		{[]string{"list"}, listCommand},
		{[]string{"trace"}, traceCommand},
		{[]string{"doctor"}, doctorCommand},
		{[]string{"istio-init", "istio-iptables"}, istioInitCommand},
		{[]string{"linkerd-init"}, linkerdInitCommand},
		{[]string{"kuma-init"}, kumaInitCommand},
		{[]string{"consul-redirect"}, consulRedirectCommand},
		{[]string{pluginCommand}, cniCommand},
		{[]string{"completion"}, completionCommand},
		{[]string{"complete"}, completeCommand},
		{[]string{"version"}, versionCommand},
		{[]string{"help", "h"}, helpCommand},
	}
}

// commands are the one that the arguments name, or all: to make every command's
// flags takes as long as to apply rules.
func commands(args []string) []*cli.Command {
	list := everyCommand()
	if len(args) > 1 {
		one := slices.IndexFunc(list, func(n named) bool { return slices.Contains(n.names, args[1]) })
		if one >= 0 && list[one].names[0] != "help" {
			list = list[one : one+1]
		}
	}
	out := make([]*cli.Command, len(list))
	for i, n := range list {
		out[i] = n.make()
		out[i].Name, out[i].Aliases = n.names[0], n.names[1:]
		if len(list) == 1 {
			out[i].Flags = namedFlags(out[i].Flags, args[2:])
		}
	}
	return append(out, developers()...)
}

// newApp is the program for those arguments; without any, with every command.
func newApp(std streams, args []string) *cli.App {
	app := &cli.App{
		Name:  "weir",
		Usage: "capture traffic for a proxy with nftables, and prove it",
		Description: "weir says what a proxy wants to see as one nftables table, sends it over\n" +
			"netlink in a way that no packet slips past, reads it back and compares.\n" +
			"No other program is run.\n\n" +
			"Exit codes: 0 done, nothing differs; 1 failed; 2 wrong usage or\n" +
			"configuration, nothing was changed; 3 verify, compare or plan --exit-code\n" +
			"found a difference; 126 istio-init's validation failed.",
		Reader:      std.in,
		Writer:      std.out,
		ErrWriter:   std.err,
		HideVersion: true,
		Compiled:    time.Unix(1, 0), // else the library looks at the program's file
		Suggest:     true,
		Commands:    commands(args),
		// The library leaves the first out where the program has a help command.
		Flags:          []cli.Flag{cli.HelpFlag, &cli.BoolFlag{Name: "version", DisableDefaultText: true, Usage: "print the version"}},
		ExitErrHandler: func(*cli.Context, error) {}, // run decides
		OnUsageError:   wrongFlag,
		Action: func(cc *cli.Context) error {
			if cc.Args().Present() {
				return noCommand(cc.App, cc.Args().First())
			}
			if cc.Bool("version") {
				return printVersion(cc)
			}
			return cli.ShowAppHelp(cc)
		},
	}
	complete(app.Commands)
	return app
}

// complete gives commands, and those below them, what all have in common.
func complete(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true
		c.OnUsageError = wrongFlag
		switch {
		case len(c.Subcommands) > 0:
			c.Action = noSubcommand
			complete(c.Subcommands)
		case !c.SkipFlagParsing && c.ArgsUsage == "":
			c.Before = noArguments
		}
	}
}

// noSubcommand says what is to follow a command that has others below it.
func noSubcommand(cc *cli.Context) error {
	var names []string
	for _, c := range cc.Command.Subcommands {
		names = append(names, c.Name)
	}
	if !cc.Args().Present() {
		return usageError{fmt.Errorf("%s wants one of: %s", strings.TrimPrefix(commandPath(cc), "weir "), strings.Join(names, ", "))}
	}
	name := cc.Args().First()
	return usageError{fmt.Errorf("unknown command %q of %s (%s)", term.Shorten(name), commandPath(cc), suggestion(name, names, helpOn(cc)))}
}

// commandPath is the command as written: weir ambient pod.
func commandPath(cc *cli.Context) string {
	path := ""
	for _, c := range cc.Lineage() {
		if c.Command != nil && c.Command.Name != cc.App.Name {
			path = " " + c.Command.Name + path
		}
	}
	return "weir" + path
}

// helpOn is how to ask for help on a command.
func helpOn(cc *cli.Context) string {
	return "weir help" + strings.TrimPrefix(commandPath(cc), "weir")
}

func noCommand(app *cli.App, name string) error {
	return usageError{fmt.Errorf("unknown command %q (%s)", term.Shorten(name), suggestion(name, commandNames(app), "weir help"))}
}

func commandNames(app *cli.App) []string {
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Names()...)
	}
	return names
}

// arrange completes a command by the ones below it that are meant where none is
// named, the first of each, and puts its flags before its arguments, where the
// library looks for them.
func arrange(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	path, rest := args[:2:2], args[2:]
	c := app.Command(args[1])
	for c != nil && len(c.Subcommands) > 0 {
		next := c.Subcommands[0]
		if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			switch named := c.Command(rest[0]); {
			case named != nil:
				next, rest = named, rest[1:]
			case next.Command(rest[0]) == nil:
				return append(path, rest...) // to be told what there is
			}
		} else if next.ArgsUsage != "" || c.Name == pluginCommand || len(rest) > 0 && slices.Contains(cli.HelpFlag.Names(), strings.TrimLeft(rest[0], "-")) {
			return append(path, rest...)
		}
		path, c = append(path, next.Name), next
	}
	if c == nil || c.SkipFlagParsing {
		return args
	}
	return append(path, permute(rest, c.Flags)...)
}
