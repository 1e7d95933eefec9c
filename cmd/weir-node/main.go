// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command weir-node is the node's agent: it keeps every pod of a node captured that should be, and tells.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/clihelp"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/version"
)

// Exit codes, as weir has them.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cli.HelpPrinter = clihelp.Print
	errs := escape.Writer{Writer: os.Stderr}
	if err := command(os.Stdout, errs).RunContext(ctx, os.Args); err != nil {
		for _, e := range problems.List(err) {
			fmt.Fprintf(errs, "weir-node: %v\n", e)
		}
		var usage usageError
		if errors.As(err, &usage) {
			os.Exit(exitUsage)
		}
		os.Exit(exitFailed)
	}
}

// usageError is a flag or an argument that means nothing.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func command(out, errs io.Writer) *cli.App {
	return &cli.App{
		Name: "weir-node", Usage: "keep every pod of this node captured that should be, and tell", Version: version.String(),
		Writer: out, ErrWriter: errs, HideHelpCommand: true, ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		Commands: []*cli.Command{
			{Name: "run", Usage: "be the node's agent", Flags: runFlags(), Action: runAgent},
			{Name: "uninstall", Usage: "take the plugin out of the lists, and then away; captures stay until their pods end",
				Flags: append(installFlags(),
					&cli.DurationFlag{Name: "wait", Value: 10 * time.Second, Usage: "`TIME` between the two, for calls by the former list"},
					&cli.BoolFlag{Name: "stay", Usage: "stay until a signal, as a DaemonSet's container is to"},
					&cli.StringFlag{Name: "health", Value: ":8000", Usage: "with --stay: `ADDRESS` of /healthz, and of /readyz, which is well once the plugin is away; \"\" for none"}),
				Action: uninstall},
			{Name: "release", Usage: "take every capture of this node out, and keep it out", ArgsUsage: "--all | --resume",
				Description: "It needs no agent and no API server. The agent and the plugin leave every pod alone until --resume.",
				Flags: append(sourceFlags(),
					&cli.BoolFlag{Name: "all", Usage: "take every capture out"},
					&cli.BoolFlag{Name: "resume", Usage: "let the agent capture again"}),
				Action: release},
		},
	}
}
