// SPDX-License-Identifier: Apache-2.0

// Package climan has a command line write its own manual.
package climan

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/man"
	"github.com/weir-mesh/weir/internal/version"
)

// Command is a hidden command that writes the pages of the command line that it belongs to into a folder. No program
// that is installed carries it.
func Command() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Hidden:    true,
		ArgsUsage: "DIR",
		Action: func(cc *cli.Context) error {
			_, at := version.Commit()
			date, err := time.Parse(time.RFC3339, at)
			if err != nil {
				return fmt.Errorf("man: the date of the pages: %w", err)
			}
			_, err = man.Write(program(cc.App), man.Source{Version: version.String(), Date: date}, cc.Args().First())
			return err
		},
	}
}

func program(app *cli.App) man.Command {
	return man.Command{Name: app.Name, Usage: app.Usage, Description: app.Description, Options: options(app.Flags), Commands: manual(app.Commands)}
}

func manual(commands []*cli.Command) (out []man.Command) {
	for _, c := range commands {
		if !c.Hidden {
			out = append(out, man.Command{Name: c.Name, Usage: c.Usage, Arguments: c.ArgsUsage, Description: c.Description,
				Options: options(c.VisibleFlags()), Commands: manual(c.Subcommands)})
		}
	}
	return out
}

// options are flags whose usage has the placeholder between backquotes, as the library wants it.
func options(flags []cli.Flag) (out []man.Option) {
	for _, f := range flags {
		var o man.Option
		for _, n := range f.Names() {
			o.Names = append(o.Names, strings.Repeat("-", min(len(n), 2))+n)
		}
		doc, _ := f.(cli.DocGenerationFlag)
		o.Usage = doc.GetUsage()
		if doc.TakesValue() {
			o.Placeholder = "VALUE"
			if parts := strings.SplitN(o.Usage, "`", 3); len(parts) == 3 {
				o.Placeholder, o.Usage = parts[1], strings.Join(parts, "")
			}
			if standard := doc.GetDefaultText(); standard != "" {
				o.Usage += " (default: " + standard + ")"
			}
		}
		out = append(out, o)
	}
	return out
}
