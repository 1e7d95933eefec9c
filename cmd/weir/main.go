// SPDX-License-Identifier: Apache-2.0

//go:build linux

// GOMAXPROCS is 1, so the runtime need not poll the CPU limit of the cgroup.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command weir makes a network namespace's nftables capture what a proxy wants
// to see, and proves that they do.
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
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/diagnose"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/input"
	"github.com/weir-mesh/weir/internal/istio"
	_ "github.com/weir-mesh/weir/internal/oneproc"
	"github.com/weir-mesh/weir/internal/stderr"
	"github.com/weir-mesh/weir/internal/tty"
	"github.com/weir-mesh/weir/modes"
)

// Exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitDiffers = 3
	exitInvalid = 126 // istio-init's validation failed; istio's repair looks for it
)

func main() {
	growStack()
	if isPlugin(os.Args) {
		os.Exit(runPlugin(context.Background()))
	}
	cli.HelpPrinter = printHelp
	ctx, stop := untilSignalled()
	code := run(ctx, os.Args, streams{input.Until(ctx, os.Stdin), os.Stdout, stderr.New(os.Stderr)})
	stop()
	os.Exit(code)
}

// signalDelay is when a command begins to listen to signals. To listen takes a tenth of an
// apply's time; before, a signal ends the program as kill -9 would, which leaves the
// former rules in force or the new ones.
const signalDelay = 10 * time.Millisecond

// untilSignalled is a context that ends with the first SIGINT or SIGTERM. The second
// ends the program at once.
func untilSignalled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	late := time.AfterFunc(signalDelay, func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(signals)
		select {
		case s := <-signals:
			cancel(fmt.Errorf("%s signal received", s))
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		late.Stop()
		cancel(nil)
	}
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a wrong command line or configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// toldError has been logged already.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// errDiffers means that something was compared and is not the same; what, was
// printed.
var errDiffers = errors.New("differs")

func run(ctx context.Context, args []string, std streams) int {
	std.out, std.err = escape.Writer{Writer: std.out}, escape.Writer{Writer: tty.Folded(std.err)}
	app := newApp(std, args)
	err := app.RunContext(ctx, arrange(app, args))
	var told toldError
	if err != nil && !errors.Is(err, errDiffers) && !errors.As(err, &told) {
		fmt.Fprintln(std.err, "weir:", diagnose.WithPermit(err))
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return exitFailed
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage usageError
	var config *modes.ConfigError
	var invalid *istio.ValidationError
	var arguments istio.ArgumentError
	var noInterface *explain.InterfaceError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errDiffers):
		return exitDiffers
	case errors.As(err, &invalid):
		return exitInvalid
	case errors.As(err, &usage), errors.As(err, &arguments), errors.As(err, &noInterface), errors.As(err, &config) && !config.Missing:
		return exitUsage
	}
	return exitFailed
}
