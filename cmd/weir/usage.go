// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/term"
)

// flagHint says where a flag belongs that is another command's, or which ones
// of this command may be meant.
func flagHint(cc *cli.Context, name string) string {
	if cc.Command.Name == cc.App.Name && cc.App.Command(name) != nil {
		return "did you mean weir " + cc.App.Command(name).Name + "?"
	}
	others := commandsWith(name)
	if len(others) > 0 && cc.Command.Name == cc.App.Name {
		return "flags follow the command"
	}
	var names []string
	for _, f := range cc.Command.Flags {
		names = append(names, f.Names()[0])
	}
	for _, end := range []string{"-" + name, "-" + name + "s"} {
		if longer := withEnd(names, end); len(longer) > 0 && len(longer) <= maxNamed {
			return "did you mean " + strings.Join(longer, " or ") + "?"
		}
	}
	if len(others) > 0 && len(others) <= maxNamed {
		return "it is a flag of " + strings.Join(others, ", ")
	}
	if nearest := term.Nearest(name, names); nearest != "" {
		return "did you mean --" + nearest + "?"
	}
	return "see " + helpOn(cc)
}

const maxNamed = 6 // flags or commands that a hint names

// withEnd are the flags whose names end so.
func withEnd(names []string, end string) []string {
	var out []string
	for _, name := range names {
		if strings.HasSuffix(name, end) {
			out = append(out, "--"+name)
		}
	}
	return out
}

// commandsWith are the commands that have a flag.
func commandsWith(flag string) []string {
	var out []string
	for _, c := range commands(nil) {
		if hasFlag(c, flag) {
			out = append(out, "weir "+c.Name)
		}
	}
	return out
}

func hasFlag(c *cli.Command, name string) bool {
	return slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

// suggestion is the known name that was probably meant, or where to read them.
func suggestion(name string, known []string, help string) string {
	if nearest := term.Nearest(name, known); nearest != "" {
		return "did you mean " + nearest + "?"
	}
	return "see " + help
}

// noArguments refuses arguments of a command that takes none.
func noArguments(cc *cli.Context) error {
	word := cc.Args().First()
	if !cc.Args().Present() {
		return nil
	}
	hint := "see " + helpOn(cc)
	if _, err := os.Stat(word); err == nil && hasFlag(cc.Command, "config") {
		hint = "did you mean --config " + word + "?"
	}
	return usageError{fmt.Errorf("unexpected argument %q of %s (%s)", term.Shorten(word), commandPath(cc), hint)}
}
