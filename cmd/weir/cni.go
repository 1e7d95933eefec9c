// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/cni/install"
	"github.com/weir-mesh/weir/internal/escape"
)

// pluginCommand is what runtimes call, so that nothing of what is below it is done unless it is named.
const pluginCommand = "cni"

// isPlugin reports whether a container runtime calls: by the plugin's name, or as weir cni with the call in
// the environment.
func isPlugin(args []string) bool {
	byName := len(args) == 1 && filepath.Base(args[0]) == cni.Type
	return byName || len(args) == 2 && args[1] == pluginCommand && os.Getenv("CNI_COMMAND") != ""
}

func runPlugin(ctx context.Context) int {
	if !cni.Run(ctx, cni.Program{Out: os.Stdout, Err: escape.Writer{Writer: os.Stderr}}) {
		return exitFailed
	}
	return exitDone
}

func cniCommand() *cli.Command {
	folders := func(more ...cli.Flag) []cli.Flag {
		return append([]cli.Flag{
			&cli.StringSliceFlag{Name: "bin-dir", Value: cli.NewStringSlice("/opt/cni/bin"), Usage: "the runtime's `FOLDERS` of plugins, of which the first that can be written is taken"},
			&cli.StringFlag{Name: "conf-dir", Value: "/etc/cni/net.d", Usage: "the runtime's `FOLDER` of network lists"},
		}, more...)
	}
	return &cli.Command{
		Usage: "be a CNI plugin, where a container runtime calls, or put it into a node",
		Description: "Example: weir cni install --settings mesh.json\n\n" +
			"Container runtimes call weir-cni, or weir cni with CNI_COMMAND in the environment.",
		Subcommands: []*cli.Command{
			{Name: "install", Usage: "install the plugin, and chain it to the node's network", Action: installPlugin, Flags: folders(
				&cli.StringFlag{Name: "conflist-mode", Value: install.Chained, Usage: "chained: into the primary plugin's list; own: into a list of weir's own, which sorts first, with the primary's plugins (`MODE`)"},
				&cli.StringFlag{Name: "settings", Usage: "`FILE` of further keys of the plugin's entry, in JSON; without, those that it has stay"},
				&cli.StringFlag{Name: "program", Usage: "the `FILE` to install; by default weir-cni beside this program, or this program"})},
			{Name: "uninstall", Usage: "take the plugin out of the lists, and then away", Action: uninstallPlugin, Flags: folders(
				&cli.DurationFlag{Name: "wait", Value: 10 * time.Second, Usage: "`TIME` between the two, for calls by the former list"})},
		},
	}
}

func installOptions(cc *cli.Context) install.Options {
	return install.Options{
		BinDirs: cc.StringSlice("bin-dir"), ConfDir: cc.String("conf-dir"), Mode: cc.String("conflist-mode"), Program: cc.String("program"),
		Tell: func(format string, args ...any) { fmt.Fprintf(cc.App.Writer, format+"\n", args...) },
	}
}

func installPlugin(cc *cli.Context) (err error) {
	o := installOptions(cc)
	if o.Program == "" {
		if o.Program, err = install.Program(); err != nil {
			return err
		}
	}
	if file := cc.String("settings"); file != "" {
		if o.Settings, err = os.ReadFile(file); err != nil {
			return err
		}
	}
	return install.Install(o)
}

func uninstallPlugin(cc *cli.Context) error {
	return install.Uninstall(cc.Context, installOptions(cc), cc.Duration("wait"))
}
