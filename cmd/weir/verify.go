package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Usage: "compare the namespace with the configuration or, without one, with what weir wrote; exit 3 where they differ",
		Description: "Example: weir verify --config pod.yaml --wait 30s\n\n" +
			"Without a configuration the tag that an apply leaves behind tells which chains,\n" +
			"sets and routes changed since, but not how.",
		Flags: withCommon(append(configurationFlags(), waitFlag())...),
		Action: func(cc *cli.Context) error {
			c, given, err := optionalConfiguration(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error {
				if given {
					return j.verifyConfiguration(ctx, c)
				}
				return j.verifyTag(ctx, c.TableName())
			})
		},
	}
}

func waitFlag() cli.Flag {
	return &cli.DurationFlag{Name: "wait", Usage: "wait up to `TIME` for the namespace to be as it should"}
}

// verifyConfiguration compares with a configuration, verifyTag with what was
// written.
func (j *job) verifyConfiguration(ctx context.Context, c configuration) error {
	j.table = c.TableName()
	return j.verify(ctx, func() ([]rules.Difference, error) { return j.difference(ctx, c) })
}

func (j *job) verifyTag(ctx context.Context, table string) error {
	j.table = table
	return j.verify(ctx, func() ([]rules.Difference, error) { return j.drift(ctx) })
}

const verifyPause = 200 * time.Millisecond

// verify checks until there is no difference or the wait is over.
func (j *job) verify(ctx context.Context, check func() ([]rules.Difference, error)) error {
	if err := j.connect(ctx); err != nil {
		return err
	}
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
	j.result = clean
	if len(found) > 0 {
		j.result = differs
	}
	w := j.out
	if j.cc.Bool("json") {
		if err := writeJSON(w, map[string]any{"table": j.table, "clean": len(found) == 0, "differences": differences(found)}); err != nil {
			return err
		}
	} else if err := j.printVerdict(w, found); err != nil {
		return err
	}
	if len(found) > 0 {
		return errDiffers
	}
	return nil
}

func (j *job) printVerdict(w io.Writer, found []rules.Difference) error {
	if len(found) == 0 {
		_, err := fmt.Fprintf(w, "clean: inet %s\n", j.table)
		return err
	}
	for _, d := range found {
		if _, err := fmt.Fprintf(w, "verify inet %s: %s\n", j.table, d); err != nil {
			return err
		}
	}
	return nil
}

// difference compares with a configuration.
func (j *job) difference(ctx context.Context, c configuration) ([]rules.Difference, error) {
	env, err := j.environment(ctx, c.Lookups())
	if err != nil {
		return nil, err
	}
	want, err := j.wanted(c, env)
	if err != nil {
		return nil, err
	}
	live, found, err := j.session().Verify(ctx, want)
	j.noteHalf(live)
	return found, err
}

// drift compares with what was written.
func (j *job) drift(ctx context.Context) ([]rules.Difference, error) {
	live, err := j.conn.Read(ctx, j.table)
	if err != nil {
		return nil, err
	}
	j.noteHalf(live)
	return driftOf(j.table, live)
}

// noteHalf notes that what was read may be half of another apply's change.
func (j *job) noteHalf(live *nft.Live) {
	if text := half(live); text != "" && !j.halfNoted {
		fmt.Fprintln(j.err, "note:", text)
		j.halfNoted = true
	}
}

func driftOf(table string, live *nft.Live) ([]rules.Difference, error) {
	if live.State.Table == nil {
		return append([]rules.Difference{{Where: "table inet " + table, Want: "what an apply writes"}}, live.Leftovers()...), nil
	}
	return live.Drift()
}
