package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Usage: "can this kernel and this namespace do it? One line a check, with the remedy; exit 1 where one fails",
		Description: "Example: weir doctor --pid 4711\n\n" +
			"What modes need of nftables is tried for real, in a scratch namespace. With a\n" +
			"configuration its proxy's users are looked at, else those of the rules in force.",
		Flags: withCommon(append(configurationFlags(),
			&cli.BoolFlag{Name: "traffic", DisableDefaultText: true, Usage: "send real connections through the configuration, in scratch namespaces"},
			&cli.BoolFlag{Name: "here", DisableDefaultText: true, Usage: "try in the namespace itself: that may switch conntrack on there and load modules"})...),
		Action: func(cc *cli.Context) error {
			c, given, err := optionalConfiguration(cc)
			if err != nil {
				return err
			}
			if cc.Bool("traffic") && !given {
				return usageError{fmt.Errorf("--traffic: %w", errNoConfiguration)}
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error {
				j.table = c.TableName()
				f, err := j.examine(ctx)
				if err != nil {
					return err
				}
				if given {
					if err := j.configuredUsers(ctx, c, &f); err != nil {
						return err
					}
				}
				checks := diagnose(f)
				if cc.Bool("traffic") {
					more, err := j.traffic(ctx, c)
					if err != nil {
						return err
					}
					checks = append(checks, more...)
				}
				return j.reportChecks(checks)
			})
		},
	}
}

// status is how a check ended.
type status string

const (
	passed  status = "ok"
	noted   status = "note" // to know, and no failure
	failed  status = "failed"
	skipped status = "skipped"
)

// check is one line of the doctor's.
type check struct {
	Check   string `json:"check"`
	Status  status `json:"status"`
	Finding string `json:"finding"`
	Remedy  string `json:"remedy,omitempty"`
}

func (j *job) reportChecks(checks []check) error {
	failures := 0
	for _, c := range checks {
		if c.Status == failed {
			failures++
		}
	}
	var err error
	if j.cc.Bool("json") {
		err = writeJSON(j.out, map[string]any{"failed": failures, "checks": checks})
	} else {
		err = printChecks(j.out, checks)
	}
	switch {
	case err != nil:
		return err
	case failures == 1:
		return errors.New("doctor: one check failed")
	case failures > 1:
		return fmt.Errorf("doctor: %d checks failed", failures)
	}
	return nil
}

func printChecks(w io.Writer, checks []check) error {
	p := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, c := range checks {
		lines := strings.Split(c.Finding, "\n")
		fmt.Fprintf(p, "%s\t%s\t%s\n", c.Status, c.Check, lines[0])
		for _, l := range lines[1:] {
			fmt.Fprintf(p, "\t\t%s\n", l)
		}
		if c.Remedy != "" {
			fmt.Fprintf(p, "\t\tremedy: %s\n", c.Remedy)
		}
	}
	return p.Flush()
}

// configuredUsers takes the proxy's users from a configuration.
func (j *job) configuredUsers(ctx context.Context, c *config.File, f *facts) error {
	k, err := j.capture(c, capture.Options{})
	if err != nil {
		return err
	}
	defer k.Close()
	want, notes, err := k.State(ctx)
	if err != nil {
		return j.failure(c, err)
	}
	j.tell(c, notes, nil)
	f.examineTable(want.Table)
	return nil
}
