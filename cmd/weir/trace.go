//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/trace"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim/packet"
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
			&cli.IntFlag{Name: "rate", Value: 100, Usage: "trace at most `N` packets a second"},
			&cli.IntFlag{Name: "count", DefaultText: "no end", Usage: "end after `N` packets"},
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

const (
	categoryTraced = "which packets"
	maxTraceRate   = 100_000
)

// traceOptions reads the flags. The error says every problem.
func traceOptions(cc *cli.Context) (trace.Options, error) {
	o := trace.Options{Rate: uint32(cc.Int("rate")), Count: cc.Int("count"), For: cc.Duration("for")}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if n := cc.Int("rate"); n < 1 || n > maxTraceRate {
		problem("--rate: %d is not a number of packets a second (want 1-%d)", n, maxTraceRate)
	}
	if cc.IsSet("count") && o.Count < 1 {
		problem("--count: %d is not a number of packets (want at least 1)", o.Count)
	}
	if o.For <= 0 {
		problem("--for: %s is negative (want such as 30s)", o.For)
	}
	proto := cc.Args().First()
	if cc.Args().Len() > 1 {
		problem("trace takes one protocol, not %d words (see weir help trace)", cc.Args().Len())
	}
	match, err := tracedPackets(proto, cc.String("from"), cc.String("to"))
	if err != nil {
		problems = append(problems, err)
	}
	o.Match = match
	if cc.IsSet("uid") {
		id, err := strconv.ParseUint(cc.String("uid"), 10, 32)
		if err != nil {
			problem("--uid: %q is not a user ID (want 0-4294967295)", cc.String("uid"))
		}
		uid := rules.UID(id)
		o.UID = &uid
	}
	if len(problems) > 0 {
		return o, usageError{errors.Join(problems...)}
	}
	return o, nil
}

// tracedPackets are the matches of a protocol, a source and a destination, each ""
// for any.
func tracedPackets(proto, from, to string) ([]rules.Node, error) {
	var of packet.Pattern
	var protoErr error
	if proto != "" {
		of, protoErr = packet.Parse(proto + " 0.0.0.0")
	}
	if protoErr != nil {
		protoErr, proto = fmt.Errorf("%q is not a protocol (want tcp, udp, icmp or icmpv6)", proto), ""
	}
	source, fromErr := packetEnd("from", proto, from)
	destination, toErr := packetEnd("to", proto, to)
	match, err := trace.Match(of.Proto, source, destination)
	return match, errors.Join(protoErr, fromErr, toErr, err)
}

// packetEnd reads one end of packets, which without a protocol may have ports.
func packetEnd(flag, proto, text string) (packet.Pattern, error) {
	if text == "" {
		return packet.Pattern{}, nil
	}
	p, err := packet.Parse(cmp.Or(proto, "tcp") + " " + text)
	if err != nil {
		return p, fmt.Errorf("--%s: %w", flag, err)
	}
	return p, nil
}

func (cmd *command) trace(ctx context.Context, o trace.Options) error {
	if !cmd.cc.Bool("host-network") {
		if err := refuseHost(cmd.target, "tracing here would show the packets of everything on it"); err != nil {
			return err
		}
	}
	if err := cmd.connect(ctx); err != nil {
		return err
	}
	counts, err := trace.Run(ctx, cmd.conn, cmd.target, o, cmd.printTraced)
	if err != nil {
		return err
	}
	return cmd.printTraceCounts(counts, o.Rate)
}
