// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/clihelp"
	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/modes"
)

func istioInitCommand() *cli.Command {
	return &cli.Command{
		Usage: "take istio-init's own arguments and environment, and do what it does to every packet",
		Description: "Example: weir istio-init -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -x '' -b '*' -d 15090,15021,15020\n\n" +
			"weir istio-init --help lists the flags.",
		SkipFlagParsing: true, // package istio parses as the reference does
		Action: func(cc *cli.Context) error {
			args := cc.Args().Slice()
			a, err := istio.Parse(args, os.LookupEnv)
			if a.Help {
				return clihelp.Write(cc.App.Writer, a.Usage())
			}
			json := a.LogJSON || err != nil && slices.Contains(args, "--log_as_json") // which may come after what is wrong
			i := istioInit{a, newInitRun(cc, json, a.Level())}
			if err == nil {
				err = i.run(cc.Context)
			}
			return i.ended(err)
		},
	}
}

// istioInit is the command at work.
type istioInit struct {
	*istio.Arguments
	initRun
}

func (i *istioInit) run(ctx context.Context) error {
	return i.within(ctx, "--network-namespace", i.NetworkNamespace, defaultTimeout+i.ProbeTimeout, i.work)
}

func (i *istioInit) work(ctx context.Context) error {
	i.log.Info("arguments", "flags", i.Given(), "environment", i.Variables())
	for _, r := range i.Remarks() {
		i.log.Warn(r)
	}
	if i.CleanupOnly && !i.DryRun && !i.SkipRuleApply && !i.PrintConfig {
		return i.cleanUp(ctx)
	}
	resolved, err := i.Resolve(ctx, i.ns)
	if err != nil {
		return err
	}
	for _, w := range resolved.Warnings {
		i.log.Warn(w)
	}
	c, env := resolved.Config, resolved.Environment
	if i.PrintConfig {
		return printConfig(i.out, c, append(i.Remarks(), resolved.Warnings...))
	}
	var text strings.Builder
	if err := printConfig(&text, c, nil); err != nil {
		return err
	}
	i.logText("resolved configuration", "yaml", text.String())
	k, err := capture.New(i.ns, c, capture.Options{HostNetwork: true, WriteSysctls: true, ResetOpen: i.ResetOpen(), Environment: &env})
	if err != nil {
		return wrongState(err, istio.Problem)
	}
	defer k.Close()
	want, notes, err := k.State(ctx)
	if err != nil {
		return wrongState(err, istio.Problem)
	}
	for _, n := range notes {
		i.log.Info(istio.Note(n).String())
	}
	switch {
	case i.DryRun:
		return i.dryRun(want.String())
	case i.SkipRuleApply:
		i.log.Info("the rules are left as they are", "because", "skip-rule-apply")
	default:
		if err := i.apply(ctx, k, func() string { return want.Abridged(maxLogged) }); err != nil {
			return err
		}
	}
	if !i.RunValidation {
		return nil
	}
	return istio.Validation{
		Namespace: i.ns, Config: c, Environment: env, Want: want, Port: i.ProbePort, Timeout: i.ProbeTimeout,
	}.Run(ctx, i.log)
}

func (i *istioInit) dryRun(plan string) error {
	if i.CleanupOnly {
		plan = fmt.Sprintf("# everything of table inet %s is removed, with its routing\n", modes.DefaultTable)
	}
	if variable, file := i.DryRunFile(); file != "" {
		if err := os.WriteFile(file, []byte(plan), 0o644); err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
	}
	_, err := io.WriteString(i.out, plan)
	return err
}

func (i *istioInit) cleanUp(ctx context.Context) error {
	c, err := capture.OfTable(i.ns, modes.DefaultTable, capture.Options{Removing: func(captured capture.Captured) {
		i.log.Warn(fmt.Sprintf("%s will be reset (weir remove --drain 30s lets them end)", captured))
	}})
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.Remove(ctx)
	if err != nil {
		return err
	}
	i.logMessages(r)
	i.log.Info("cleaned up", "outcome", r.Outcome, "table", r.Table, "reset", r.Reset)
	return nil
}
