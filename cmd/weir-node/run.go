//go:build linux

package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/keep"
)

func runAgent(cc *cli.Context) error {
	if cc.NArg() > 0 {
		return usageError{fmt.Errorf("run: %q: it takes no arguments", cc.Args().First())}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cc.String("log-level"))); err != nil {
		return usageError{fmt.Errorf("--log-level: %q is not a level (want debug, info, warn or error)", cc.String("log-level"))}
	}
	log := slog.New(slog.NewJSONHandler(cc.App.ErrWriter, &slog.HandlerOptions{Level: level}))
	settings, err := readSettings(cc.String("settings"))
	if err != nil {
		return err
	}
	a, err := node.New(node.Options{Node: settings, Sources: sources(cc), Log: log, StateDir: cc.String("state-dir"),
		Sweep: cc.Duration("sweep"), Limits: keep.DefaultLimits(), Ambient: newAmbient(cc, nil, nil, log)})
	if err != nil {
		return err
	}
	return a.Run(cc.Context)
}

// readSettings reads the keys of the plugin's entry; without a file they are the defaults.
func readSettings(file string) (cni.Node, error) {
	if file == "" {
		return cni.ReadNode(nil)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return cni.Node{}, fmt.Errorf("--settings: %w", err)
	}
	n, err := cni.ReadNode(text)
	if err != nil {
		return n, fmt.Errorf("--settings: %s: %w", file, err)
	}
	return n, nil
}
