// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/inventory"
)

func release(cc *cli.Context) error {
	switch all, resume := cc.Bool("all"), cc.Bool("resume"); {
	case all == resume || cc.NArg() > 0:
		return usageError{errors.New("release: want either --all or --resume")}
	case resume:
		if err := node.Resume(cc.String("state-dir")); err != nil {
			return fmt.Errorf("release: %w", err)
		}
		fmt.Fprintln(cc.App.Writer, "resumed: the agent captures again what should be captured")
		return nil
	}
	removed, connections := 0, 0
	err := node.ReleaseAll(cc.Context, cc.String("state-dir"), sources(cc), func(p inventory.Pod, r capture.Report) {
		removed++
		connections += r.Reset
		fmt.Fprintf(cc.App.Writer, "%s: table %s %s\n", p, r.Table, r.Outcome)
	})
	fmt.Fprintf(cc.App.Writer, "released: %d captures are out (%d connections ended), until weir-node release --resume\n", removed, connections)
	return err
}
