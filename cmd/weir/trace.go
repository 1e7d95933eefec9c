package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/nft"
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
			"alone. The trace's own table goes with it.",
		Flags: withCommon(
			&cli.StringFlag{Name: "to", Category: categoryTraced, Usage: "packets to `CIDR[:PORT]`, :PORT or [IPv6]:PORT"},
			&cli.StringFlag{Name: "from", Category: categoryTraced, Usage: "packets from `CIDR[:PORT]`"},
			&cli.StringFlag{Name: "uid", Category: categoryTraced, Usage: "packets of sockets that user `UID` opened here"},
			&cli.IntFlag{Name: "rate", Value: 100, Usage: "trace at most `N` packets a second"},
			&cli.IntFlag{Name: "count", DefaultText: "no end", Usage: "end after `N` packets"},
			&cli.DurationFlag{Name: "for", Value: 10 * time.Second, Usage: "end after `TIME`"}),
		Action: func(cc *cli.Context) error {
			o, err := traceOptions(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.trace(ctx, o) })
		},
	}
}

const (
	categoryTraced = "which packets"
	maxTraceRate   = 100_000
)

// traceOptions reads the flags. The error says every problem.
func traceOptions(cc *cli.Context) (nft.TraceOptions, error) {
	o := nft.TraceOptions{Hooks: []rules.Hook{rules.Prerouting, rules.Output}, Rate: uint32(cc.Int("rate"))}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if n := cc.Int("rate"); n < 1 || n > maxTraceRate {
		problem("--rate: %d is no number of packets a second (want 1-%d)", n, maxTraceRate)
	}
	if n := cc.Int("count"); cc.IsSet("count") && n < 1 {
		problem("--count: %d is no number of packets (want at least 1)", n)
	}
	if d := cc.Duration("for"); d <= 0 {
		problem("--for: %s has passed already", d)
	}
	proto := cc.Args().First()
	if cc.Args().Len() > 1 {
		problem("trace takes one protocol, not %d words (see weir help trace)", cc.Args().Len())
	}
	match, err := matchPackets(proto, cc.String("from"), cc.String("to"))
	if err != nil {
		problems = append(problems, err)
	}
	o.Match = match
	if cc.IsSet("uid") {
		uid, err := strconv.ParseUint(cc.String("uid"), 10, 32)
		if err != nil {
			problem("--uid: %q is no user id (want 0-4294967295)", cc.String("uid"))
		}
		o.Match = append(o.Match, rules.SkUID.Is(rules.UID(uid)))
		o.Hooks = []rules.Hook{rules.Output} // arriving packets have no user
	}
	if len(problems) > 0 {
		return o, usageError{errors.Join(problems...)}
	}
	return o, nil
}

// matchPackets are the matches of a protocol, a source and a destination, each "" for
// any.
func matchPackets(proto, from, to string) ([]rules.Node, error) {
	var of packet.Pattern
	var protoErr error
	if proto != "" {
		of, protoErr = packet.Parse(proto + " 0.0.0.0")
	}
	if protoErr != nil {
		protoErr, proto = fmt.Errorf("%q is no protocol (want tcp, udp, icmp or icmpv6)", proto), ""
	}
	source, fromErr := packetEnd("from", proto, from)
	destination, toErr := packetEnd("to", proto, to)
	err := errors.Join(protoErr, fromErr, toErr)
	for _, end := range []packet.Pattern{source, destination} {
		if end.TwoFamilies() {
			err = errors.Join(err, fmt.Errorf("%q is of two families", end))
		}
	}
	if a, b := source.To, destination.To; a.IsValid() && b.IsValid() && a.Addr().Is4() != b.Addr().Is4() {
		err = errors.Join(err, fmt.Errorf("--from and --to are of two families: %s and %s", a, b))
	}
	var out []rules.Node
	switch {
	case of.Proto != 0:
		out = append(out, rules.L4Proto.Is(of.Proto))
	case source.Ports != destination.Ports || source.Ports != (rules.Range{}):
		out = append(out, rules.L4Proto.In(rules.TCP, rules.UDP)) // others have no ports
	}
	out = append(out, matchEnd(source, rules.Saddr, rules.ThSport)...)
	return append(out, matchEnd(destination, rules.Daddr, rules.ThDport)...), err
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

func matchEnd(p packet.Pattern, addr rules.Key[netip.Prefix], port rules.Key[rules.Port]) (out []rules.Node) {
	if p.To.IsValid() {
		out = append(out, addr.Is(p.To))
	}
	if p.Ports != (rules.Range{}) {
		out = append(out, port.Within(p.Ports))
	}
	return out
}

func (j *job) trace(ctx context.Context, o nft.TraceOptions) (err error) {
	if err := j.connect(ctx); err != nil {
		return err
	}
	v := &tracer{ctx: ctx, conn: j.conn, out: newTracePrinter(j.out, j.cc.Bool("json")), most: j.cc.Int("count")}
	if err := v.refresh(); err != nil {
		return err
	}
	t, err := nft.StartTrace(ctx, j.target.FD(), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := v.follow(t, time.Now().Add(j.cc.Duration("for"))); err != nil {
		return err
	}
	return j.traceEnd(t, o, v)
}

// traceEnd says what the trace left out.
func (j *job) traceEnd(t *nft.Trace, o nft.TraceOptions, v *tracer) error {
	matched, traced, err := t.Counts(context.WithoutCancel(v.ctx))
	if err != nil {
		return err
	}
	lost, err := t.Lost()
	if err != nil {
		return err
	}
	if err := v.out.end(matched, traced, lost); err != nil {
		return err
	}
	w := j.err
	switch {
	case matched == 0:
		fmt.Fprintln(w, "note: no packet matched")
	case traced < matched:
		fmt.Fprintf(w, "note: %d packets matched, %d of them above --rate %d were not traced\n", matched, matched-traced, o.Rate)
	}
	if lost > 0 {
		fmt.Fprintf(w, "warning: %d notifications were lost, and with them steps of packets: want a smaller --rate\n", lost)
	}
	return nil
}
