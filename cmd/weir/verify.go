package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
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
				return j.verifyTable(ctx, c)
			})
		},
	}
}

func waitFlag() cli.Flag {
	return &cli.DurationFlag{Name: "wait", Usage: "wait up to `TIME` for the namespace to be as it should"}
}

// verifyConfiguration compares with a configuration, verifyTable with what was
// written.
func (j *job) verifyConfiguration(ctx context.Context, c *config.File) error {
	k, err := j.capture(c, capture.Options{})
	if err != nil {
		return err
	}
	return j.verify(ctx, c, k)
}

func (j *job) verifyTable(ctx context.Context, c *config.File) error {
	k, err := j.captureOfTable(c.TableName(), capture.Options{})
	if err != nil {
		return err
	}
	return j.verify(ctx, c, k)
}

func (j *job) verify(ctx context.Context, c *config.File, k *capture.Capture) error {
	defer k.Close()
	v, err := k.Await(ctx, j.cc.Duration("wait"))
	j.tell(c, v.Notes, v.Messages())
	if err != nil {
		return j.failure(c, err)
	}
	return j.verdict(v)
}

func (j *job) verdict(v capture.Verdict) error {
	j.result = clean
	if !v.Clean() {
		j.result = differs
	}
	w := j.out
	if j.cc.Bool("json") {
		if err := writeJSON(w, map[string]any{"table": v.Table, "clean": v.Clean(), "differences": differences(v.Differences)}); err != nil {
			return err
		}
	} else if err := printVerdict(w, v); err != nil {
		return err
	}
	if !v.Clean() {
		return errDiffers
	}
	return nil
}

func printVerdict(w io.Writer, v capture.Verdict) error {
	if v.Clean() {
		_, err := fmt.Fprintf(w, "clean: inet %s\n", v.Table)
		return err
	}
	for _, d := range v.Differences {
		if _, err := fmt.Fprintf(w, "verify inet %s: %s\n", v.Table, d); err != nil {
			return err
		}
	}
	return nil
}
