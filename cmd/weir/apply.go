//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/rules"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Usage:       "make the namespace capture what the configuration says, and prove it",
		Description: "Example: weir apply --config pod.yaml --pid 4711",
		Flags:       withCommon(append(configurationFlags(), hostNetworkFlag())...),
		Action: func(cc *cli.Context) error {
			c, err := checkedConfig(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.apply(ctx, c) })
		},
	}
}

func hostNetworkFlag() cli.Flag {
	return &cli.BoolFlag{Name: "host-network", DisableDefaultText: true, Usage: "apply even to the machine's own network namespace"}
}

func (cmd *command) apply(ctx context.Context, c *config.File) error {
	k, err := cmd.capture(c, capture.Options{HostNetwork: cmd.cc.Bool("host-network"), Removing: cmd.noteReset})
	if err != nil {
		return err
	}
	defer k.Close()
	r, err := k.Apply(ctx)
	cmd.tell(c, r.Notes, r.Messages())
	if err != nil {
		return cmd.failure(c, err)
	}
	return cmd.report(r)
}

// outcome is a result as a program reads it.
type outcome struct {
	Outcome  string             `json:"outcome"`
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

func (cmd *command) report(r capture.Report) error {
	cmd.result = string(r.Outcome)
	o := outcome{
		Outcome: string(r.Outcome), Table: r.Table, State: r.State, Changes: differences(r.Differences), Kept: r.Kept, Reset: r.Reset,
		Seconds: map[string]float64{"read": r.Read.Seconds(), "commit": r.Commit.Seconds(), "verify": r.Verify.Seconds()},
	}
	if r.Previous != nil {
		o.Previous = r.Previous.String()
	}
	for _, c := range r.Conflicts {
		o.Foreign = append(o.Foreign, c.ForeignChain.String())
	}
	var err error
	if cmd.cc.Bool("json") {
		err = writeJSON(cmd.out, o)
	} else {
		err = o.print(cmd.out, r)
	}
	if err != nil {
		return fmt.Errorf("inet %s is %s, which could not be printed: %w", r.Table, o.Outcome, err)
	}
	return nil
}

func (o outcome) print(w io.Writer, r capture.Report) error {
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
