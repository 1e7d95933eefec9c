// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/tty"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// command is a command at work: where, and what it reads and prints.
type command struct {
	cc *cli.Context
	streams
	target      *netns.Namespace
	environment *modes.Environment // nil: it is to be read
	namespace   string             // the name of the namespace, where many are worked in
	table       string
	result      string // in a word, once there is one: the outcome of an apply or a remove, or
}

// Results of commands that change nothing.
const (
	planned = "planned"
	clean   = "clean"
	differs = "differing"
)

const defaultTimeout = time.Minute

func timeoutFlag() cli.Flag {
	return &cli.DurationFlag{Name: "timeout", Value: defaultTimeout, Usage: "give up after `TIME`, with the former state in force"}
}

// inNamespace does a command's work in the namespace that its flags name, for as
// long as they allow.
func inNamespace(cc *cli.Context, work func(context.Context, *command) error) error {
	return inOneNamespace(cc, cc.String("netns"), work)
}

func inOneNamespace(cc *cli.Context, ns string, work func(context.Context, *command) error) error {
	return inTime(cc, func(ctx context.Context, environment *modes.Environment) error {
		t, err := openTarget(cc, ns)
		if err != nil {
			return err
		}
		cmd := newCommand(cc, t, environment)
		defer cmd.target.Close()
		return work(ctx, cmd)
	})
}

// inTime does a command's work, in an environment if its flags say one, for as
// long as they allow.
func inTime(cc *cli.Context, work func(context.Context, *modes.Environment) error) error {
	timeout, err := timeLimit(cc)
	if err != nil {
		return err
	}
	environment, err := givenEnvironment(cc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(cc.Context, timeout, fmt.Errorf("--timeout %s", timeout))
	defer cancel()
	progress := tty.Start(cc.App.ErrWriter, commandPath(cc))
	defer progress.Stop()
	cc.App.Writer, cc.App.ErrWriter = progress.Above(cc.App.Writer), progress.Above(cc.App.ErrWriter)
	return whyEnded(ctx, work(ctx, environment))
}

func newCommand(cc *cli.Context, t *netns.Namespace, environment *modes.Environment) *command {
	return &command{cc: cc, streams: streams{cc.App.Reader, cc.App.Writer, cc.App.ErrWriter}, target: t, environment: environment, table: modes.DefaultTable}
}

// timeLimit is --timeout, which --wait, --for or --drain prolongs where it was not given.
func timeLimit(cc *cli.Context) (time.Duration, error) {
	timeout, wait := cc.Duration("timeout"), cc.Duration("wait")
	switch {
	case timeout <= 0:
		return 0, usageError{fmt.Errorf("--timeout: %s leaves no time to work (want such as 30s)", timeout)}
	case wait < 0:
		return 0, usageError{fmt.Errorf("--wait: %s is negative (want such as 30s)", wait)}
	case !cc.IsSet("timeout"):
		return timeout + wait + cc.Duration("for") + max(cc.Duration("drain"), 0), nil
	case cc.Duration("drain") >= timeout:
		return 0, usageError{fmt.Errorf("--drain: %s is not shorter than --timeout, %s", cc.Duration("drain"), timeout)}
	case wait >= timeout:
		return 0, usageError{fmt.Errorf("--wait: %s is not shorter than --timeout, %s", wait, timeout)}
	}
	return timeout, nil
}

// whyEnded adds to an error of work that was cut short what did that: a time
// limit, or a signal.
func whyEnded(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended == nil || !errors.Is(err, ended) {
		return err
	}
	return fmt.Errorf("%w: %w", err, context.Cause(ctx))
}

// sweepTraces removes what killed traces left behind, for commands that read the
// namespace themselves; the engine does so by itself.
func (cmd *command) sweepTraces(ctx context.Context) {
	cmd.tell(nil, nil, capture.SweepTraces(ctx, cmd.target).Messages())
}

// capture is the engine for a configuration, in the environment that the flags say
// if they do.
func (cmd *command) capture(c *config.File, options capture.Options) (*capture.Capture, error) {
	cmd.table, options.Environment = c.TableName(), cmd.environment
	k, err := capture.New(cmd.target, c.Config, options)
	if err != nil {
		return nil, cmd.failure(c, err)
	}
	return k, nil
}

// captureOfTable is the engine for what weir wrote into a table.
func (cmd *command) captureOfTable(table string, options capture.Options) (*capture.Capture, error) {
	cmd.table = table
	return capture.OfTable(cmd.target, table, options)
}

// tell prints what a verb met beside its work.
func (cmd *command) tell(c *config.File, notes []modes.Note, messages []capture.Message) {
	for _, n := range notes {
		fmt.Fprintln(cmd.err, "note:", c.ExplainNote(n))
	}
	for _, m := range messages {
		fmt.Fprintln(cmd.err, m)
	}
}

// failure is the error of a verb in the words of the command line.
func (cmd *command) failure(c *config.File, err error) error {
	var config *modes.ConfigError
	if errors.As(err, &config) {
		return wrongState(err, c.Explain)
	}
	return wordsOfHost(err)
}

// wrongState is the error of a configuration that makes no state, said by explain:
// wrong usage, but where all that is wrong is what the namespace lacks.
func wrongState(err error, explain func(error) error) error {
	for _, e := range problems.List(err) {
		var config *modes.ConfigError
		if !errors.As(e, &config) || !config.Missing {
			return usageError{explain(err)}
		}
	}
	return explain(err)
}

func withCommon(flags ...cli.Flag) []cli.Flag {
	isTaken := func(f cli.Flag) bool {
		name := f.Names()[0] // the library finds it by a regular expression, each time
		return slices.ContainsFunc(flags, func(g cli.Flag) bool { return g.Names()[0] == name })
	}
	return append(append(flags, timeoutFlag(), jsonFlag()), slices.DeleteFunc(targetFlags(), isTaken)...)
}
