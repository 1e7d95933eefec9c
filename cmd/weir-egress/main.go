// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command weir-egress tells which hosts a network namespace calls, in bytes and by name.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/clihelp"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/version"
)

// Exit codes, as weir's.
const (
	failed = 1
	usage  = 2
)

// usageError is what the command line or the configuration has wrong.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	cli.HelpPrinter = clihelp.Print
	app := &cli.App{
		Name:            "weir-egress",
		Usage:           "which hosts a network namespace calls, in bytes and by name",
		Version:         version.String(),
		HideHelpCommand: true,
		Writer:          os.Stdout,
		ErrWriter:       escape.Writer{Writer: os.Stderr},
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		Commands: append([]*cli.Command{
			watchCommand(),
			reportCommand(),
			serveCommand(),
			{Name: "version", Usage: "print the version", Action: func(cc *cli.Context) error {
				_, err := fmt.Fprintln(cc.App.Writer, version.String())
				return err
			}},
		}, developers()...),
	}
	err := app.RunContext(ctx, os.Args)
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "weir-egress: %s\n", escape.Text(err.Error()))
	if wrong := (usageError{}); errors.As(err, &wrong) {
		os.Exit(usage)
	}
	os.Exit(failed)
}
