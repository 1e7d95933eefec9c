// SPDX-License-Identifier: Apache-2.0

//go:build linux && man

package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/man"
	"github.com/weir-mesh/weir/internal/version"
)

// developers are commands that make the manual, which no program that is installed carries.
func developers() []*cli.Command {
	return []*cli.Command{{
		Name:      "man",
		Hidden:    true,
		ArgsUsage: "DIR",
		Action: func(cc *cli.Context) error {
			_, at := version.Commit()
			date, err := time.Parse(time.RFC3339, at)
			if err != nil {
				return fmt.Errorf("man: the date of the pages: %w", err)
			}
			_, err = man.Write(cc.App, man.Source{Version: version.String(), Date: date}, cc.Args().First())
			return err
		},
	}}
}
