package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "compare the namespace with the configuration or, without one, with what weir wrote; exit 3 where they differ",
		Description: "Example: weir verify --config pod.yaml --wait 30s\n\n" +
			"Without a configuration the tag that an apply leaves behind tells whether\n" +
			"anything changed since, but not what.",
		Flags: withCommon(append(configurationFlags(),
			&cli.DurationFlag{Name: "wait", Usage: "wait up to `TIME` for the namespace to be as it should"})...),
		Action: func(cc *cli.Context) error {
			c, given, err := optionalConfiguration(cc)
			if err != nil {
				return err
			}
			j, ctx, cancel, err := start(cc)
			if err != nil {
				return err
			}
			defer cancel()
			defer j.close()
			if err := j.connect(); err != nil {
				return err
			}
			j.table = c.TableName()
			check := func() ([]rules.Difference, error) { return j.drift(ctx) }
			if given {
				check = func() ([]rules.Difference, error) { return j.difference(ctx, c) }
			}
			return j.verify(ctx, check)
		},
	}
}

const verifyPause = 200 * time.Millisecond

// verify checks until there is no difference or the wait is over.
func (j *job) verify(ctx context.Context, check func() ([]rules.Difference, error)) error {
	end := time.Now().Add(j.cc.Duration("wait"))
	for {
		found, err := check()
		if err != nil {
			return fmt.Errorf("verify inet %s: %w", j.table, err)
		}
		if len(found) == 0 || !time.Now().Before(end) {
			return j.verdict(found)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(verifyPause):
		}
	}
}

func (j *job) verdict(found []rules.Difference) error {
	w := j.cc.App.Writer
	if j.cc.Bool("json") {
		if err := writeJSON(w, map[string]any{"table": j.table, "clean": len(found) == 0, "differences": differences(found)}); err != nil {
			return err
		}
	} else if len(found) == 0 {
		fmt.Fprintf(w, "clean: inet %s\n", j.table)
	} else {
		for _, d := range found {
			fmt.Fprintf(w, "verify inet %s: %s\n", j.table, d)
		}
	}
	if len(found) > 0 {
		return errDiffers
	}
	return nil
}

// difference compares with a configuration.
func (j *job) difference(ctx context.Context, c configuration) ([]rules.Difference, error) {
	env, err := j.environment(ctx)
	if err != nil {
		return nil, err
	}
	want, err := j.wanted(c, env)
	if err != nil {
		return nil, err
	}
	_, found, err := j.session().Verify(ctx, want)
	return found, err
}

// drift compares with what was written.
func (j *job) drift(ctx context.Context) ([]rules.Difference, error) {
	live, err := j.conn.Read(ctx, j.table)
	if err != nil {
		return nil, err
	}
	return driftOf(j.table, live)
}

func driftOf(table string, live *nft.Live) ([]rules.Difference, error) {
	if live.State.Table == nil {
		return append([]rules.Difference{{Where: "table inet " + table, Want: "what an apply writes"}}, live.Leftovers()...), nil
	}
	return live.Drift()
}
