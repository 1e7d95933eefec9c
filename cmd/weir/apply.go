package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Usage:       "make the namespace capture what the configuration says, and prove it",
		Description: "Example: weir apply --config pod.yaml --pid 4711",
		Flags:       withCommon(append(configurationFlags(), hostNetworkFlag())...),
		Action: func(cc *cli.Context) error {
			c, err := written(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.apply(ctx, c) })
		},
	}
}

func hostNetworkFlag() cli.Flag {
	return &cli.BoolFlag{Name: "host-network", DisableDefaultText: true, Usage: "apply even to the machine's own network namespace"}
}

func (j *job) apply(ctx context.Context, c configuration) error {
	if c.Mode != modes.ModeAmbientHost && !j.cc.Bool("host-network") {
		if err := refuseHost(j.target, "applying here would capture the traffic of everything on it"); err != nil {
			return err
		}
	}
	if err := j.connect(ctx); err != nil {
		return err
	}
	env, err := j.environment(ctx, c.Lookups())
	if err != nil {
		return err
	}
	want, err := j.wanted(c, env)
	if err != nil {
		return err
	}
	if c.Mode == modes.ModeSidecar || c.Mode == modes.ModeAmbientPod {
		lo, err := j.loopback(ctx)
		switch {
		case err != nil:
			return err
		case !lo.Up && c.Mode == modes.ModeAmbientPod:
			return errors.New("lo is down: " + loopbackDown + " (set it up first)")
		case !lo.Up: // an init container may come before whoever sets it up
			fmt.Fprintln(j.err, "warning: lo is down: "+loopbackDown)
		}
	}
	s, reset := j.session(), 0
	if want.Table == nil {
		if reset, err = j.noteReset(ctx, s, func(text string) { fmt.Fprintln(j.err, text) }); err != nil {
			return fmt.Errorf("apply inet %s: %w", j.table, err)
		}
	}
	result, err := s.Apply(ctx, want)
	result.Reset = reset
	if err != nil {
		return fmt.Errorf("apply inet %s: %w", j.table, err)
	}
	return j.report(want, result)
}

const loopbackDown = "what is redirected would not reach the proxy"

// outcome is a result as a program reads it.
type outcome struct {
	Outcome  nft.Outcome        `json:"outcome"`
	Table    string             `json:"table"`
	State    string             `json:"state,omitempty"`
	Previous string             `json:"previous,omitempty"`
	Changes  []difference       `json:"changes,omitempty"`
	Foreign  []string           `json:"foreign,omitempty"`
	Kept     int                `json:"kept,omitempty"` // connections that were open before and go on past the proxy
	Reset    int                `json:"reset,omitempty"`
	Seconds  map[string]float64 `json:"seconds"`
}

// difference is a rules.Difference as a program reads it.
type difference struct {
	Where string `json:"where"`
	Want  string `json:"want,omitempty"`
	Have  string `json:"have,omitempty"`
}

func differences(list []rules.Difference) []difference {
	out := make([]difference, len(list))
	for i, d := range list {
		out[i] = difference(d)
	}
	return out
}

func (j *job) report(want rules.State, r nft.Result) error {
	j.result = string(r.Outcome)
	o := outcome{
		Outcome: r.Outcome, Table: j.table, Changes: differences(r.Differences), Kept: r.Kept, Reset: r.Reset,
		Seconds: map[string]float64{"read": r.Read.Seconds(), "commit": r.Commit.Seconds(), "verify": r.Verify.Seconds()},
	}
	if want.Table != nil {
		o.State = want.Hash()
	}
	if r.Previous != nil {
		o.Previous = r.Previous.String()
	}
	if note := oldOverNew(r); note != "" {
		fmt.Fprintln(j.err, "note:", note)
	}
	if held := withoutLock(r); held != "" {
		fmt.Fprintln(j.err, "warning:", held)
	}
	for _, f := range rivals(want, r) {
		o.Foreign = append(o.Foreign, f.String())
		fmt.Fprintf(j.err, "warning: %s %s\n", f, f.when)
	}
	if r.Unlisted != nil {
		fmt.Fprintf(j.err, "warning: connections that were open may be reset: %v\n", r.Unlisted)
	}
	var err error
	if j.cc.Bool("json") {
		err = writeJSON(j.out, o)
	} else {
		err = o.print(j.out, r)
	}
	if err != nil {
		return fmt.Errorf("inet %s is %s, which could not be printed: %w", j.table, o.Outcome, err)
	}
	return nil
}

func (o outcome) print(w io.Writer, r nft.Result) error {
	line := fmt.Sprintf("%s: inet %s", o.Outcome, o.Table)
	if o.State != "" {
		line += ", state " + o.State
	}
	if o.Kept > 0 {
		line += fmt.Sprintf(", open connections left as they are: %d", o.Kept)
	}
	_, err := fmt.Fprintf(w, "%s (read %s, commit %s, verify %s)\n", line, short(r.Read), short(r.Commit), short(r.Verify))
	return err
}

func short(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// withoutLock says that an apply went on without the lock of applies, and why.
func withoutLock(r nft.Result) string {
	if r.LockHeld == nil {
		return ""
	}
	return fmt.Sprintf("went on without the lock: table inet weir-lock belongs to %s", r.LockHeld)
}

// half says that what was read may be half of another apply's change.
func half(live *nft.Live) string {
	if live == nil || live.Applying == nil {
		return ""
	}
	return fmt.Sprintf("another apply may be at work, and this may be half of its change: table inet weir-lock belongs to %s", live.Applying)
}
