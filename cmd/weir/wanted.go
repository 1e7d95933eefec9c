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
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// job is a command at work: its namespace, and what is wanted there.
type job struct {
	cc *cli.Context
	streams
	target *netns.Namespace
	said   *modes.Environment // nil: it is to be read
	conn   *nft.Conn          // nil where the command can do without and it cannot be had
	oneOf  string             // the name of the namespace, where many are worked in
	table  string
	noted  bool   // what there is to note of the configuration
	result string // in a word, once there is one: an [nft.Outcome], or
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
func inNamespace(cc *cli.Context, work func(context.Context, *job) error) error {
	return inOneNamespace(cc, cc.String("netns"), work)
}

func inOneNamespace(cc *cli.Context, ns string, work func(context.Context, *job) error) error {
	return inTime(cc, func(ctx context.Context, said *modes.Environment) error {
		t, err := openTarget(cc, ns)
		if err != nil {
			return err
		}
		j := newJob(cc, t, said)
		defer j.close()
		return work(ctx, j)
	})
}

// inTime does a command's work, in an environment if its flags say one, for as
// long as they allow.
func inTime(cc *cli.Context, work func(context.Context, *modes.Environment) error) error {
	timeout, err := timeLimit(cc)
	if err != nil {
		return err
	}
	said, err := saidEnvironment(cc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(cc.Context, timeout, fmt.Errorf("--timeout %s", timeout))
	defer cancel()
	return whyEnded(ctx, work(ctx, said))
}

func newJob(cc *cli.Context, t *netns.Namespace, said *modes.Environment) *job {
	return &job{cc: cc, streams: streams{cc.App.Reader, cc.App.Writer, cc.App.ErrWriter}, target: t, said: said, table: modes.DefaultTable}
}

// timeLimit is --timeout, which --wait, --for or --drain prolongs where it was not given.
func timeLimit(cc *cli.Context) (time.Duration, error) {
	timeout, wait := cc.Duration("timeout"), cc.Duration("wait")
	switch {
	case timeout <= 0:
		return 0, usageError{fmt.Errorf("--timeout: %s is no time to work in", timeout)}
	case wait < 0:
		return 0, usageError{fmt.Errorf("--wait: %s has passed already", wait)}
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

func (j *job) connect(ctx context.Context) error {
	c, err := openNft(j.target)
	if err == nil {
		j.conn = c
		j.sweepTraces(ctx)
	}
	return err
}

// sweepTraces takes away what a killed trace left behind. Where the permission is
// missing, the command's own work says so.
func (j *job) sweepTraces(ctx context.Context) {
	swept, err := j.conn.SweepTraces(ctx, j.target.FD())
	for _, name := range swept {
		fmt.Fprintf(j.err, "note: took table inet %s away, left by a trace that was killed\n", escape.Text(name))
	}
	if err != nil && !errors.Is(err, nft.ErrNotPermitted) {
		fmt.Fprintf(j.err, "warning: %v\n", err)
	}
}

func (j *job) close() {
	if j.conn != nil {
		j.conn.Close()
	}
	j.target.Close()
}

// session is the job's work on its table.
func (j *job) session() *nft.Session { return j.conn.Session(j.table, version.String()) }

// capture is the engine for a configuration, in the environment that the flags say
// if they do.
func (j *job) capture(c *config.File, options capture.Options) (*capture.Capture, error) {
	j.table, options.Environment = c.TableName(), j.said
	k, err := capture.New(j.target, c.Config, options)
	if err != nil {
		return nil, j.failure(c, err)
	}
	return k, nil
}

// captureOfTable is the engine for what weir wrote into a table.
func (j *job) captureOfTable(table string, options capture.Options) (*capture.Capture, error) {
	j.table = table
	return capture.OfTable(j.target, table, options)
}

// tell prints what a verb met beside its work.
func (j *job) tell(c *config.File, notes []modes.Note, messages []capture.Message) {
	for _, n := range notes {
		fmt.Fprintln(j.err, "note:", c.ExplainNote(n))
	}
	for _, m := range messages {
		fmt.Fprintln(j.err, m)
	}
}

// failure is the error of a verb in the words of the command line.
func (j *job) failure(c *config.File, err error) error {
	var config *modes.ConfigError
	if errors.As(err, &config) {
		return wrongState(err, c.Explain)
	}
	return wordsOfHost(err)
}

// wanted is the state that a configuration asks for in that environment. Notes
// go to standard error, once.
func (j *job) wanted(c *config.File, env modes.Environment) (rules.State, error) {
	state, notes, err := modes.State(c.Config, env)
	if err != nil {
		return state, wrongState(err, c.Explain)
	}
	if !j.noted {
		j.tell(c, notes, nil)
	}
	j.table, j.noted = c.TableName(), true
	return state, nil
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

// written is the configuration as written, checked as far as it can be without
// the namespace, so that bad input is told before anything is opened.
func written(cc *cli.Context) (*config.File, error) {
	c, err := loadConfiguration(cc, cc.App.Reader)
	switch {
	case err == nil:
		return c, nil
	case c == nil:
		return nil, usageError{err}
	}
	return c, usageError{withUnknownNames(cc, c, err)}
}

// withUnknownNames is the error of a configuration with the users and groups that the
// target does not know either, where they can be looked up.
func withUnknownNames(cc *cli.Context, c *config.File, err error) error {
	asked := c.Lookups()
	asked.Resolvers = false
	_, said := given(cc, "environment")
	if said || asked == (modes.Lookups{}) {
		return err
	}
	t, openErr := openTarget(cc, cc.String("netns"))
	if openErr != nil {
		return err // what is told without it is told
	}
	defer t.Close()
	env, readErr := capture.FileEnvironment(cc.Context, t, asked)
	if readErr != nil {
		return err
	}
	return c.CheckNames(env)
}

// optionalConfiguration is the configuration where one was given; a table's name
// alone is none.
func optionalConfiguration(cc *cli.Context) (c *config.File, ok bool, err error) {
	if configured(cc, "table") {
		c, err = written(cc)
		return c, true, err
	}
	if err := refuseEnvironment(cc); err != nil {
		return c, false, err
	}
	c = &config.File{}
	if name, named := given(cc, "table"); named {
		c.Table, err = name[0], checkTable(name[0])
	}
	return c, false, err
}

// refuseEnvironment refuses an environment where no configuration is read in it.
func refuseEnvironment(cc *cli.Context) error {
	if _, given := given(cc, "environment"); given {
		return usageError{errors.New("--environment is about a configuration, and there is none")}
	}
	return nil
}

// saidEnvironment is what --environment says, nil without it.
func saidEnvironment(cc *cli.Context) (*modes.Environment, error) {
	name, ok := given(cc, "environment")
	if !ok {
		return nil, nil
	}
	env, err := loadEnvironment(cc.Context, name[0])
	if err != nil {
		return nil, usageError{err}
	}
	return &env, nil
}

func withCommon(flags ...cli.Flag) []cli.Flag {
	isTaken := func(f cli.Flag) bool {
		return slices.ContainsFunc(flags, func(g cli.Flag) bool { return g.Names()[0] == f.Names()[0] })
	}
	return append(append(flags, timeoutFlag(), jsonFlag()), slices.DeleteFunc(targetFlags(), isTaken)...)
}
