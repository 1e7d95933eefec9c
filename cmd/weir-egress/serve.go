// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/egress/metrics"
	"github.com/weir-mesh/weir/internal/egress/serve"
	"github.com/weir-mesh/weir/internal/egress/settings"
	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "be in the path of named hosts: virtual addresses by DNS, http to https, metrics of each host",
		Description: "Example: weir-egress serve -f egress.yaml\n\n" +
			"It serves the network namespace that it runs in, and captures there what its hosts imply: virtual\n" +
			"addresses and DNS, and port 443 where a host is a wildcard. At its end that is given up.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"f"}, Usage: "`FILE` of the configuration, - for standard input (docs/egress.md)"},
			&cli.StringFlag{Name: "app", DefaultText: "the host's name", Usage: "`NAME` of the application in metrics"},
			&cli.BoolFlag{Name: "reset-open", Usage: "with serve.conntrack: none: reset the connections that are open"},
			&cli.BoolFlag{Name: "write-sysctls", Usage: "write the kernel settings that serve.conntrack: none needs"},
			&cli.BoolFlag{Name: "host-network", Usage: "allow to capture in the machine's own network namespace"},
		},
		Action: runServe,
	}
}

func runServe(cc *cli.Context) error {
	if cc.Args().Present() || cc.String("config") == "" {
		return usageError{errors.New("serve takes -f FILE and no argument")}
	}
	sleepLonger() // before standard input is read
	s, err := readSettings(cc.String("config"))
	if err != nil {
		return usageError{err}
	}
	log := slog.New(slog.NewTextHandler(escape.Writer{Writer: os.Stderr}, nil))
	name, _ := os.Hostname() // without it metrics have no name
	m, err := metrics.New(version.String(), s.Names)
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithCancelCause(cc.Context)
	defer cancel(nil)
	if s.Listen != "" {
		go func() { cancel(scraped(ctx, s.Listen, m)) }()
	}
	debug.SetGCPercent(garbagePercent)
	var tasks []func() error
	if s.Watch != nil {
		tasks = append(tasks, func() error { return watchAlong(ctx, *s.Watch, m) })
	}
	if s.Serve != nil {
		if err := os.MkdirAll(filepath.Dir(s.Serve.State), 0o755); err != nil {
			return err
		}
		server := &serve.Server{Settings: s.Serve, App: cmp.Or(cc.String("app"), name), Metrics: m, Failed: limited(log)}
		tasks = append(tasks, func() error {
			return server.Run(ctx, netns.Current(), capture.Options{HostNetwork: cc.Bool("host-network"), ResetOpen: cc.Bool("reset-open"), WriteSysctls: cc.Bool("write-sysctls")}, func() {
				log.Info("serving", "hosts", len(s.Serve.Hosts), "port", s.Serve.Port, "dns", s.Serve.DNSPort)
			})
		})
	}
	done := make(chan error, len(tasks))
	for _, task := range tasks {
		go func() {
			err := task()
			cancel(err) // one without the other is not what was asked for
			done <- err
		}()
	}
	for range tasks {
		err = errors.Join(err, <-done)
	}
	var inUse *serve.InUseError
	if errors.As(err, &inUse) {
		return usageError{err}
	}
	return err
}

// garbagePercent has the collector run less often: what is kept is a few megabytes, and each connection leaves some
// tens of kilobytes.
const garbagePercent = 400

func readSettings(path string) (settings.Settings, error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return settings.Settings{}, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, config.MaxSize+1))
	if err != nil {
		return settings.Settings{}, err
	}
	return settings.Parse(path, text)
}

// watchAlong counts for metrics what is called besides.
func watchAlong(ctx context.Context, c modes.Config, m *metrics.Metrics) error {
	ns := netns.Current()
	w, err := watch.Start(ctx, ns, c, capture.Options{}, nil)
	if err != nil {
		return err
	}
	users, _ := ns.Users(ctx) // without them owners are numbers
	e := exporter{metrics: m, totals: metrics.NewTotals(m), users: named(users)}
	const every = 5 * time.Second
	for tick := time.NewTicker(every); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			var r watch.Report
			if r, err = w.Report(ctx); err != nil && ctx.Err() == nil {
				return errors.Join(err, w.Close(context.WithoutCancel(ctx)))
			}
			e.take(r)
		}
	}
	return w.Close(context.WithoutCancel(ctx))
}

// limited logs what failed, a few times a second: clients can make it fail.
func limited(log *slog.Logger) func(error) {
	const aSecond = 5
	slots := make(chan struct{}, aSecond)
	return func(err error) {
		select {
		case slots <- struct{}{}:
			log.Warn("failed", "error", fmt.Sprint(err))
			time.AfterFunc(time.Second, func() { <-slots })
		default:
		}
	}
}
