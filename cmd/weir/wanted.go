package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// job is a command at work: its namespace, and what is wanted there.
type job struct {
	cc     *cli.Context
	target *target
	conn   *nft.Conn // nil where the command can do without and it cannot be had
	table  string
}

const defaultTimeout = time.Minute

func timeoutFlag() cli.Flag {
	return &cli.DurationFlag{Name: "timeout", Value: defaultTimeout, Usage: "give up after `TIME`, with the former state in force"}
}

// start opens the namespace of a command. The caller closes the job.
func start(cc *cli.Context) (*job, context.Context, context.CancelFunc, error) {
	if err := noArguments(cc); err != nil {
		return nil, nil, nil, err
	}
	t, err := openTarget(cc)
	if err != nil {
		return nil, nil, nil, err
	}
	timeout := cc.Duration("timeout")
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(cc.Context, timeout)
	return &job{cc: cc, target: t, table: modes.DefaultTable}, ctx, cancel, nil
}

func (j *job) connect() error {
	c, err := j.target.connect()
	if err == nil {
		j.conn = c
	}
	return err
}

func (j *job) close() {
	if j.conn != nil {
		j.conn.Close()
	}
	j.target.close()
}

// session is the job's work on its table.
func (j *job) session() *nft.Session { return j.conn.Session(j.table, version()) }

// wanted is the state that a configuration asks for in that environment. Notes
// go to standard error.
func (j *job) wanted(c configuration, env modes.Environment) (rules.State, error) {
	state, notes, err := modes.State(c.Config, env)
	if err != nil {
		return state, usageError{c.explain(err)}
	}
	for _, n := range notes {
		fmt.Fprintln(j.cc.App.ErrWriter, "note:", c.explainNote(n))
	}
	j.table = c.TableName()
	return state, nil
}

// written is the configuration as written, checked as far as it can be without
// the namespace, so that bad input is told before anything is opened.
func written(cc *cli.Context) (configuration, error) {
	c, err := loadConfiguration(cc, cc.App.Reader)
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// optionalConfiguration is the configuration where one was given; a table's name
// alone is none.
func optionalConfiguration(cc *cli.Context) (c configuration, ok bool, err error) {
	if configured(cc, "table") {
		c, err = written(cc)
		return c, true, err
	}
	c = newConfiguration("")
	if name, named := given(cc, "table"); named {
		c.Table = name[0]
	}
	return c, false, nil
}

// environment is what --environment says, else what the namespace is like.
func (j *job) environment(ctx context.Context) (modes.Environment, error) {
	if name, ok := given(j.cc, "environment"); ok {
		env, err := loadEnvironment(name[0])
		if err != nil {
			return env, usageError{err}
		}
		return env, nil
	}
	return readEnvironment(ctx, j.target, j.conn)
}

func withCommon(flags ...cli.Flag) []cli.Flag {
	return append(append(flags, timeoutFlag(), jsonFlag()), targetFlags()...)
}

// foreignCapture are the base chains of others that see a new connection before
// ours do and may decide first.
func foreignCapture(want rules.State, foreign []nft.ForeignChain) []nft.ForeignChain {
	if want.Table == nil {
		return nil
	}
	var out []nft.ForeignChain
	for _, f := range foreign {
		before := slices.ContainsFunc(want.Table.Chains, func(c *rules.Chain) bool {
			return c.Base != nil && c.Base.Type == f.Base.Type && c.Base.Hook == f.Base.Hook && f.Base.Priority <= c.Base.Priority
		})
		if before && f.Base.Type == rules.NATType {
			out = append(out, f)
		}
	}
	return out
}
