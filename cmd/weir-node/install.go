// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/cni/install"
	"github.com/weir-mesh/weir/internal/node/health"
	"github.com/weir-mesh/weir/internal/node/installer"
	"github.com/weir-mesh/weir/internal/node/metrics"
)

const installed = "the plugin"

// newInstaller keeps the plugin installed; nil where no folder of lists is named.
func newInstaller(cc *cli.Context, log *slog.Logger, ready *health.Ready, counts *metrics.Metrics) (*installer.Installer, error) {
	folder := cc.String("cni-conf-dir")
	if folder == "" {
		return nil, nil
	}
	o := install.Options{BinDirs: cc.StringSlice("cni-bin-dir"), ConfDir: folder, Mode: cc.String("conflist-mode"), Program: cc.String("program")}
	if len(o.BinDirs) == 0 {
		return nil, usageError{errors.New("--cni-bin-dir: no folder is named (it belongs to --cni-conf-dir)")}
	}
	if o.Mode != install.Chained && o.Mode != install.Own {
		return nil, usageError{fmt.Errorf("--conflist-mode: %q is not a mode (want %s or %s)", o.Mode, install.Chained, install.Own)}
	}
	var err error
	if o.Program == "" {
		if o.Program, err = install.Program(); err != nil {
			return nil, err
		}
	}
	if file := cc.String("settings"); file != "" {
		if o.Settings, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("--settings: %w", err)
		}
	}
	ready.Missing(installed, "not installed yet")
	return &installer.Installer{Options: o, Log: log, Done: func(changed bool, err error) {
		counts.Installed(changed, err)
		if err != nil {
			ready.Missing(installed, err.Error())
		} else {
			ready.Done(installed)
		}
	}}, nil
}

// uninstall takes the plugin away; where it stays after that, it is Ready from then on.
func uninstall(cc *cli.Context) error {
	o := install.Options{BinDirs: cc.StringSlice("cni-bin-dir"), ConfDir: cc.String("cni-conf-dir"),
		Tell: func(format string, args ...any) { fmt.Fprintf(cc.App.Writer, format+"\n", args...) }}
	if o.ConfDir == "" || len(o.BinDirs) == 0 {
		return usageError{errors.New("uninstall: want --cni-conf-dir and --cni-bin-dir")}
	}
	if !cc.Bool("stay") {
		return install.Uninstall(cc.Context, o, cc.Duration("wait"))
	}
	var ready health.Ready
	ready.Missing(installed, "not taken away yet")
	ctx, cancel := context.WithCancelCause(cc.Context)
	defer cancel(nil)
	if address := cc.String("health"); address != "" {
		go func() {
			if err := health.Serve(ctx, address, ready.Handler()); err != nil {
				cancel(fmt.Errorf("--health: %w", err))
			}
		}()
	}
	if err := install.Uninstall(ctx, o, cc.Duration("wait")); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	ready.Done(installed)
	fmt.Fprintln(cc.App.Writer, "uninstalled; waiting for a signal")
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
