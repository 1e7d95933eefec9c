// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Usage:     "say what becomes of a packet, and which rules decide it",
		ArgsUsage: "PROTOCOL DESTINATION",
		Description: "Example: weir explain --config pod.yaml --uid 1000 tcp 10.0.0.1:443\n\n" +
			"It needs no kernel and no privileges. What a configuration does not say about\n" +
			"the pod is assumed: it has eth0, with the addresses of --address, and its\n" +
			"listeners listen. With - for the packet, packets are read from standard input,\n" +
			`one JSON object a line: {"packet": "tcp 10.0.0.1:443", "uid": 1000}.`,
		Flags: append(packetFlags(), withCommon(configurationFlags()...)...),
		Action: func(cc *cli.Context) error {
			all := cc.Bool("all")
			packets, err := requestedPackets(cc)
			switch {
			case all && cc.Args().Present():
				return usageError{errors.New("--all explains every class of packets, and takes no packet")}
			case all && noPacketFlags(cc) != nil:
				return noPacketFlags(cc)
			case err != nil && !all:
				return err
			}
			if cc.Bool("live") {
				return explainLive(cc, packets)
			}
			c, err := checkedConfig(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.explain(ctx, c, packets) })
		},
	}
}

const categoryPacket = "the packet"

func packetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "in", Category: categoryPacket, Usage: "it arrives on `INTERFACE`; without this it comes from this pod"},
		&cli.StringFlag{Name: "from", Category: categoryPacket, Usage: "it comes from `ADDRESS[:PORT]`"},
		&cli.StringFlag{Name: "device", Category: categoryPacket, Usage: "its socket is bound to `INTERFACE` (SO_BINDTODEVICE)"},
		&cli.StringFlag{Name: "uid", Category: categoryPacket, Usage: "user `UID` opened its socket", DefaultText: "each that rules tell apart"},
		&cli.StringFlag{Name: "gid", Category: categoryPacket, Usage: "group `GID` opened its socket", DefaultText: "0, if it comes from this pod"},
		&cli.StringFlag{Name: "mark", Category: categoryPacket, Usage: "it carries packet mark `MARK`"},
		&cli.StringFlag{Name: "state", Category: categoryPacket, Usage: "conntrack calls it `STATE`: new, established, related, invalid or untracked", DefaultText: "new"},
		&cli.StringFlag{Name: "ct-mark", Category: categoryPacket, Usage: "its connection carries connection mark `MARK`"},
		addressFlag(),
		&cli.BoolFlag{Name: "all", DisableDefaultText: true, Usage: "every class of packets that is treated alike, what escapes the proxy first"},
		&cli.BoolFlag{Name: "live", DisableDefaultText: true, Usage: "explain what the namespace holds now, not a configuration"},
		&cli.BoolFlag{Name: "markdown", DisableDefaultText: true, Usage: "print Markdown"},
	}
}

func addressFlag() cli.Flag {
	var assumed []string
	for _, l := range explain.AssumedLinks() {
		for _, a := range l.Addresses {
			assumed = append(assumed, l.Name+"="+a.String())
		}
	}
	return &cli.StringSliceFlag{Name: "address", Category: categoryPacket, Usage: "the pod has `INTERFACE=PREFIX`; may be given again",
		DefaultText: strings.Join(assumed, ", ")}
}

// requestedPackets are the packets of the command line or of standard input.
func requestedPackets(cc *cli.Context) ([]explain.Packet, error) {
	if cc.Args().Len() == 1 && cc.Args().First() == "-" {
		if err := noPacketFlags(cc); err != nil {
			return nil, err
		}
		packets, err := explain.ReadRequests("standard input", cc.App.Reader)
		if err != nil {
			return nil, usageError{err}
		}
		return packets, nil
	}
	r := explain.Request{Packet: strings.Join(cc.Args().Slice(), " "), In: cc.String("in"), From: cc.String("from"), Device: cc.String("device"),
		Mark: cc.String("mark"), State: cc.String("state"), CTMark: cc.String("ct-mark")}
	var errs []error
	for _, flag := range []struct {
		name string
		into **uint32
	}{{"uid", &r.UID}, {"gid", &r.GID}} {
		if !cc.IsSet(flag.name) {
			continue
		}
		id, err := strconv.ParseUint(cc.String(flag.name), 10, 32)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %q is not a numeric ID (want 0-4294967295)", flag.name, cc.String(flag.name)))
		}
		v := uint32(id)
		*flag.into = &v
	}
	p, err := r.Parse()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, usageError{err}
	}
	return []explain.Packet{p}, nil
}

// noPacketFlags refuses flags about one packet where there is none, or many.
func noPacketFlags(cc *cli.Context) error {
	var errs []error
	for _, name := range []string{"in", "from", "device", "uid", "gid", "mark", "state", "ct-mark"} {
		if cc.IsSet(name) {
			errs = append(errs, fmt.Errorf("--%s is about one packet that the command line names", name))
		}
	}
	if len(errs) > 0 {
		return usageError{errors.Join(errs...)}
	}
	return nil
}

// explain says what becomes of each packet by a configuration, or of every class.
func (cmd *command) explain(ctx context.Context, c *config.File, packets []explain.Packet) error {
	host, err := explain.ParsePod(cmd.cc.StringSlice("address")...)
	if err != nil {
		return wrongAddress(err)
	}
	want, err := cmd.assumedRules(ctx, c, capture.Links(host.Links))
	if err != nil {
		return err
	}
	if cmd.cc.Bool("all") {
		classes, err := want.Classes(host)
		if err != nil {
			return err
		}
		return printClasses(cmd.cc, classes)
	}
	return printAnswers(cmd.cc, want.In(host), packets)
}

// ownerUnsaid reports whether the command line names a packet of this host's, and not who
// opens its socket: then every owner that rules tell apart is explained.
func ownerUnsaid(cc *cli.Context) bool {
	return cc.Args().First() != "-" && !cc.IsSet("uid") && !cc.IsSet("gid") && !cc.IsSet("in")
}

// assumedRules are the rules of a configuration where only that is known, and which interfaces are assumed.
func (cmd *command) assumedRules(ctx context.Context, c *config.File, links []modes.Link) (explain.Rules, error) {
	env, err := cmd.assumedEnvironment(ctx, c.Lookups())
	if err != nil {
		return explain.Rules{}, err
	}
	env.Links = links
	return cmd.rulesIn(ctx, c, env)
}

// rulesIn are the rules of a configuration in an environment.
func (cmd *command) rulesIn(ctx context.Context, c *config.File, env modes.Environment) (explain.Rules, error) {
	cmd.table = c.TableName()
	k, err := capture.New(cmd.target, c.Config, capture.Options{Environment: &env})
	if err != nil {
		return explain.Rules{}, cmd.failure(c, err)
	}
	state, notes, err := k.State(ctx)
	if err != nil {
		return explain.Rules{}, cmd.failure(c, err)
	}
	cmd.tell(c, notes, nil)
	return explain.Rules{State: state, Listeners: modes.PortNames(c.Config)}, nil
}

// assumedEnvironment is what was said of the environment, else one of both
// families, with the names and resolvers of the files in /etc.
func (cmd *command) assumedEnvironment(ctx context.Context, lookups modes.Lookups) (modes.Environment, error) {
	if cmd.environment != nil {
		return *cmd.environment, nil
	}
	env, err := capture.FileEnvironment(ctx, cmd.target, lookups)
	env.IPv6, env.LoopbackIPv6 = true, true
	return env, err
}

// wrongAddress says of each address that it is --address.
func wrongAddress(err error) error {
	var errs []error
	for _, err := range problems.List(err) {
		errs = append(errs, fmt.Errorf("--address: %w", err))
	}
	return usageError{errors.Join(errs...)}
}

// explainLive says what becomes of packets by what a namespace holds now.
func explainLive(cc *cli.Context, packets []explain.Packet) error {
	if configured(cc) {
		return usageError{errors.New("--live explains what the namespace holds, and takes no configuration")}
	}
	if cc.IsSet("address") {
		return usageError{errors.New("--live reads the namespace's addresses, and takes no --address")}
	}
	if err := refuseEnvironment(cc); err != nil {
		return err
	}
	return inNamespace(cc, func(ctx context.Context, cmd *command) error {
		cmd.sweepTraces(ctx)
		x, err := explain.Live(ctx, cmd.target)
		if err != nil {
			return fmt.Errorf("explain --live: %w", netns.WithAdvice(err))
		}
		for _, note := range x.Notes() {
			if !cc.IsSet("in") {
				fmt.Fprintf(cmd.err, "note: %s\n", note)
			}
		}
		if cc.Bool("all") {
			classes, err := x.Classes()
			if err != nil {
				return fmt.Errorf("explain --live --all: %w", err)
			}
			return printClasses(cc, classes)
		}
		if err := x.CheckInterfaces(packets); err != nil {
			return err
		}
		return printAnswers(cc, x, packets)
	})
}
