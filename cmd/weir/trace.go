// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/trace"
)

func traceCommand() *cli.Command {
	return &cli.Command{
		Usage:     "print real packets as they cross the rules: each rule's verdict and reason",
		ArgsUsage: "[tcp|udp|icmp|icmpv6]",
		Description: "Example: weir trace --pid 4711 --to 203.0.113.10:80 --count 1 tcp\n\n" +
			"Packets that match are traced from before all other rules on; those of other\n" +
			"programs are marked as such. Of a connection nat chains see the first packet\n" +
			"alone. The trace's own table goes with it. In the machine's own network namespace\n" +
			"it takes --host-network.",
		Flags: withCommon(
			&cli.StringFlag{Name: "to", Category: categoryTraced, Usage: "packets to `CIDR[:PORT]`, :PORT or [IPv6]:PORT"},
			&cli.StringFlag{Name: "from", Category: categoryTraced, Usage: "packets from `CIDR[:PORT]`"},
			&cli.StringFlag{Name: "uid", Category: categoryTraced, Usage: "packets of sockets that user `UID` opened here"},
			&cli.BoolFlag{Name: "syn", Category: categoryTraced, DisableDefaultText: true, Usage: "of TCP, only packets that open connections"},
			&cli.IntFlag{Name: "rate", Value: 100, Usage: "trace at most `N` packets a second"},
			&cli.IntFlag{Name: "count", DefaultText: "no end", Usage: "end after `N` connections (of ICMP: packets)"},
			&cli.DurationFlag{Name: "for", Value: 10 * time.Second, Usage: "end after `TIME`"},
			&cli.BoolFlag{Name: "host-network", DisableDefaultText: true, Usage: "trace even in the machine's own network namespace"}),
		Action: func(cc *cli.Context) error {
			o, err := traceOptions(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.trace(ctx, o) })
		},
	}
}

const categoryTraced = "which packets"

// traceOptions reads the flags. The error says every problem.
func traceOptions(cc *cli.Context) (trace.Options, error) {
	r := trace.Request{Protocol: cc.Args().First(), From: cc.String("from"), To: cc.String("to"), SYN: cc.Bool("syn"), Rate: cc.Int("rate"), For: cc.Duration("for")}
	if uid := cc.String("uid"); cc.IsSet("uid") {
		r.UID = &uid
	}
	if count := cc.Int("count"); cc.IsSet("count") {
		r.Count = &count
	}
	var errs []error
	if cc.Args().Len() > 1 {
		errs = append(errs, fmt.Errorf("trace takes one protocol, not %d words (see weir help trace)", cc.Args().Len()))
	}
	o, err := r.Parse()
	for _, err := range problems.List(err) {
		if _, isOption := err.(*trace.OptionError); isOption {
			err = fmt.Errorf("--%w", err)
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return o, usageError{errors.Join(errs...)}
	}
	return o, nil
}

func (cmd *command) trace(ctx context.Context, o trace.Options) error {
	if !cmd.cc.Bool("host-network") {
		if err := refuseHost(cmd.target, "tracing here would show the packets of everything on it"); err != nil {
			return err
		}
	}
	cmd.sweepTraces(ctx)
	counts, err := trace.Run(ctx, cmd.target, o, cmd.printTraced)
	if err != nil {
		return err
	}
	return cmd.printTraceCounts(counts, o.Rate)
}
