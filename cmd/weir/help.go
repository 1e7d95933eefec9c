// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/clihelp"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/internal/tty"
	"github.com/weir-mesh/weir/modes"
)

const keysTopic = "keys"

// helpCommand is the library's, but refuses an unknown command, and lists the keys of the configuration.
func helpCommand() *cli.Command {
	return &cli.Command{
		Usage:       "list the commands, a command's flags, or the keys of the configuration (weir help keys)",
		ArgsUsage:   "[command|keys]",
		Description: "Example: weir help apply --mode egress",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "mode", Usage: "list the keys of `MODE` (default: of sidecar for a command, of all for keys)"}},
		Action: func(cc *cli.Context) error {
			mode, topic := cc.String("mode"), cc.Args().First()
			if cc.IsSet("mode") && !slices.Contains(modeNames(), mode) {
				return usageError{fmt.Errorf("--mode: %q is not one of: %s", term.Shorten(mode), strings.Join(modeNames(), ", "))}
			}
			c := cc.App.Command(topic)
			switch {
			case topic == "":
				return cli.ShowAppHelp(cc)
			case topic == keysTopic:
				return writeText(cc.App.Writer, keysText(tty.LookOf(cc.App.Writer), mode))
			case c == nil:
				return noCommand(cc.App, topic)
			case len(c.Subcommands) > 0:
				return cc.App.RunContext(cc.Context, slices.Concat([]string{cc.App.Name}, cc.Args().Slice(), []string{"--help"}))
			}
			for _, f := range c.Flags {
				if f, ok := f.(*wordsFlag); ok && f.key != nil && f.key.Path == "mode" && mode != "" {
					f.value.words = []string{mode}
				}
			}
			return cli.ShowCommandHelp(cc, topic)
		},
	}
}

// modeNames are the modes that a configuration may have.
func modeNames() (names []string) {
	for _, k := range modes.Keys() {
		if k.Path == "mode" {
			for _, c := range k.Choices {
				names = append(names, c.Word)
			}
		}
	}
	return names
}

// printHelp has the library write help, of keys only those of one mode, in the terminal's width.
func printHelp(w io.Writer, template string, data any) {
	if c, ok := data.(*cli.Command); ok {
		data = withKeysOfMode(c)
	}
	clihelp.Print(w, template, data)
}

// withKeysOfMode is a command for its help: of its flags that are keys, it has those of the mode that is given, else of
// sidecar.
func withKeysOfMode(c *cli.Command) *cli.Command {
	mode := modes.ModeSidecar
	var flags []cli.Flag
	hasKeys := false
	for _, f := range c.Flags {
		if f, ok := f.(*wordsFlag); ok && f.key != nil {
			hasKeys = true
			if f.key.Path == "mode" && slices.Contains(modeNames(), f.value.String()) {
				mode = f.value.String()
			}
		}
	}
	if !hasKeys {
		return c
	}
	for _, f := range c.Flags {
		if key, ok := f.(*wordsFlag); ok && key.key != nil {
			if !usedBy(*key.key, mode) {
				continue
			}
			of := *key
			of.category = "The keys of mode " + mode + " (of another: weir help " + c.Name + " --mode MODE; all: weir help keys):"
			f = &of
		}
		flags = append(flags, f)
	}
	return &cli.Command{Name: c.Name, Aliases: c.Aliases, HelpName: c.HelpName, Usage: c.Usage, ArgsUsage: c.ArgsUsage, Description: c.Description, Flags: flags}
}

// usedBy reports whether a mode uses a key; the mode "" stands for all.
func usedBy(k modes.Key, mode string) bool {
	return mode == "" || len(k.Modes) == 0 || slices.Contains(k.Modes, mode)
}

// keysText is the reference of the keys that a mode uses, or of all.
func keysText(look term.Look, mode string) string {
	rows := [][]term.Cell{term.Styled(term.Bold, term.Cells("KEY", "DEFAULT", "MEANING"))}
	for _, k := range modes.Keys() {
		if !usedBy(k, mode) {
			continue
		}
		meaning := k.Doc
		if mode == "" && len(k.Modes) > 0 {
			meaning += " (" + strings.Join(k.Modes, ", ") + ")"
		}
		rows = append(rows, term.Cells(k.Path, k.Defaults(), meaning))
	}
	return look.Table(0, 2, rows) + look.Fold("Each is a flag too: outbound.excludeCIDRs is --outbound-exclude-cidrs.") + "\n"
}
