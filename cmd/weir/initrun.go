// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/diagnose"
	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/internal/tty"
	"github.com/weir-mesh/weir/netns"
)

// initRun is a mesh's init command at work in a namespace.
type initRun struct {
	streams
	json bool
	log  *slog.Logger
	ns   *netns.Namespace
}

// newInitRun logs as the reference's flags ask.
func newInitRun(cc *cli.Context, json bool, level slog.Level) initRun {
	i := initRun{streams: streams{cc.App.Reader, cc.App.Writer, cc.App.ErrWriter}, json: json}
	options := &slog.HandlerOptions{Level: level}
	if i.json {
		i.log = slog.New(slog.NewJSONHandler(i.err, options))
	} else {
		i.log = slog.New(slog.NewTextHandler(i.err, options))
	}
	return i
}

// within does the work in the namespace that a flag names, and gives it a time limit.
func (i *initRun) within(ctx context.Context, flag, name string, limit time.Duration, work func(context.Context) error) (err error) {
	if i.ns, err = initTarget(flag, name); err != nil {
		return err
	}
	defer i.ns.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit))
	defer cancel()
	return whyEnded(ctx, work(ctx))
}

// ended logs how the command failed, where a pod's status shows it too; nil where it did not.
func (i *initRun) ended(err error) error {
	err = diagnose.WithPermit(err)
	istio.WriteTerminationLog(err)
	if err == nil {
		return nil
	}
	i.log.Error(err.Error())
	return toldError{err}
}

// initTarget is the namespace that a flag names. The reference is told one by a CNI plugin that has
// entered it already.
func initTarget(flag, name string) (*netns.Namespace, error) {
	here := netns.Current()
	if name == "" {
		return here, nil
	}
	t, err := namedTarget(flag, name)
	if err == nil && t.IsCurrent() {
		t.Close()
		return here, nil
	}
	return t, err
}

const maxLogged = 200 // elements of a set

func (i *initRun) apply(ctx context.Context, k *capture.Capture, text func() string) error {
	r, err := k.Apply(ctx)
	if r.HostNetwork {
		i.log.Warn("this is the machine's own network namespace: everything on it is captured")
	}
	if err != nil {
		return err
	}
	i.logText("ruleset as applied", "nft", text())
	i.logMessages(r)
	i.log.Info("applied", "outcome", r.Outcome, "table", r.Table, "state", r.State, "kept", r.Kept,
		"read", r.Read.String(), "commit", r.Commit.String(), "verify", r.Verify.String())
	return nil
}

func (i *initRun) logMessages(r capture.Report) {
	for _, m := range r.Messages() {
		i.log.Warn(m.Text)
	}
}

// logText logs a text of many lines: as one record, which collectors of logs keep whole, or as lines where a person
// reads them.
func (i *initRun) logText(what, key, text string) {
	if i.json || !tty.IsTerminal(i.err) {
		i.log.Info(what, key, text)
	} else if i.log.Enabled(context.Background(), slog.LevelInfo) {
		i.log.Info(what + ":")
		fmt.Fprint(i.err, text)
	}
}
