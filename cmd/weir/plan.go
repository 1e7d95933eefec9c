package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Usage: "print the nft text and the routing that apply would make, and what differs from now",
		Description: "Example: weir plan --config pod.yaml\n\n" +
			"The output is a script that nft -f loads. It needs no privileges; without\n" +
			"them it is not compared with what is live.",
		Flags: withCommon(append(configurationFlags(), exitCodeFlag())...),
		Action: func(cc *cli.Context) error {
			c, err := written(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.plan(ctx, c) })
		},
	}
}

func exitCodeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "exit-code", DisableDefaultText: true, Usage: "exit 3 where something differs from now"}
}

func (j *job) plan(ctx context.Context, c configuration) error {
	j.result = planned
	connectErr := j.connect(ctx)
	env, err := j.planEnvironment(ctx, c.Lookups())
	if err != nil {
		return err
	}
	want, err := j.wanted(c, env)
	if err != nil {
		return err
	}
	now := comparison{err: connectErr}
	if connectErr == nil {
		now = j.compare(ctx, want)
	}
	if err := j.printPlan(want, now); err != nil {
		return err
	}
	if now.err != nil && j.cc.Bool("exit-code") {
		return fmt.Errorf("plan inet %s: %w", j.table, now.err)
	}
	if len(now.found) > 0 && j.cc.Bool("exit-code") {
		return errDiffers
	}
	return nil
}

// comparison is in what the namespace is not as wanted.
type comparison struct {
	found   []rules.Difference
	refusal error // why an apply would change nothing
	err     error // why nothing was compared
}

func (j *job) compare(ctx context.Context, want rules.State) comparison {
	live, found, err := j.session().Verify(ctx, want)
	if err != nil {
		return comparison{err: err}
	}
	j.noteHalf(live)
	return comparison{found: found, refusal: live.Refusal(want)}
}

// planEnvironment does without a namespace where there is none to be had.
func (j *job) planEnvironment(ctx context.Context, asked modes.Lookups) (modes.Environment, error) {
	if j.conn == nil && j.said == nil {
		return j.fileEnvironment(ctx, asked)
	}
	return j.environment(ctx, asked)
}

// script is the state as nft -f loads it.
func (j *job) script(want rules.State) string {
	if want.Table == nil {
		return fmt.Sprintf("table inet %s\ndelete table inet %[1]s\n", j.table) + want.String()
	}
	return want.String()
}

func (j *job) printPlan(want rules.State, now comparison) error {
	w := j.out
	if j.cc.Bool("json") {
		plan := map[string]any{"table": j.table, "ruleset": j.script(want), "routing": append([]string{}, want.Normal().Routing()...), "differences": differences(now.found)}
		if now.err != nil {
			plan["notCompared"] = now.err.Error()
		}
		if now.refusal != nil {
			plan["refused"] = now.refusal.Error()
		}
		return writeJSON(w, plan)
	}
	var text strings.Builder
	for _, r := range parts(now.refusal) {
		fmt.Fprintf(&text, "# apply will refuse: %v\n", r)
	}
	text.WriteString(j.script(want))
	switch {
	case now.err != nil:
		fmt.Fprintf(&text, "# not compared with what is live: %v\n", now.err)
	case len(now.found) == 0:
		text.WriteString("# nothing differs from now\n")
	default:
		text.WriteString("# what differs from now:\n")
	}
	for _, d := range now.found {
		text.WriteString("# " + strings.ReplaceAll(d.String(), "\n", "\n# ") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}
