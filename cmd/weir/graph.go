// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/graph"
	"github.com/weir-mesh/weir/internal/input"
	"github.com/weir-mesh/weir/internal/show"
)

func graphCommand() *cli.Command {
	flags := slices.DeleteFunc(append(packetFlags(), withCommon(append(configurationFlags(), foreignFlag())...)...), func(f cli.Flag) bool {
		return slices.Contains([]string{"all", "live", "markdown", "json"}, f.Names()[0]) // of explain
	})
	return &cli.Command{
		Usage:     "draw the rules: hooks in packet order, chains, jumps, sets; with a packet, its path",
		ArgsUsage: "[PROTOCOL DESTINATION]",
		Description: "Example: weir graph --config pod.yaml --format html --uid 1000 tcp 10.0.0.1:443 > pod.html\n\n" +
			"Without a configuration, and with --live, it draws what the namespace holds,\n" +
			"with counters. The HTML is one page that needs no network.",
		Flags: append(flags,
			&cli.BoolFlag{Name: "live", DisableDefaultText: true, Usage: "draw what the namespace holds now, not a configuration"},
			&cli.StringFlag{Name: "format", Value: formatMermaid, Usage: "write `mermaid|html`"}),
		Action: func(cc *cli.Context) error {
			r, err := graphRequest(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error { return cmd.graph(ctx, r) })
		},
	}
}

const (
	formatMermaid = "mermaid"
	formatHTML    = "html"
)

// drawn is what to draw.
type drawn struct {
	config  *config.File
	live    bool
	foreign show.TableName // the zero name: weir's table
	packet  *explain.Packet
	format  string
}

func graphRequest(cc *cli.Context) (drawn, error) {
	r := drawn{format: cc.String("format")}
	if r.format != formatMermaid && r.format != formatHTML {
		return r, usageError{fmt.Errorf("--format: %q is not one of: %s, %s", r.format, formatMermaid, formatHTML)}
	}
	c, given, err := optionalConfiguration(cc)
	if err != nil {
		return r, err
	}
	r.config, r.live = c, !given || cc.Bool("live")
	if r.foreign, err = foreignTable(cc); err != nil {
		return r, err
	}
	if cc.Args().Present() {
		packets, err := requestedPackets(cc)
		if err != nil {
			return r, err
		}
		if len(packets) != 1 {
			return r, usageError{errors.New("a graph shows the path of one packet")}
		}
		r.packet = &packets[0]
	} else if err := noPacketFlags(cc); err != nil {
		return r, err
	}
	switch {
	case given && cc.Bool("live"):
		return r, usageError{errors.New("--live draws what the namespace holds, and takes no configuration")}
	case r.live && cc.IsSet("address"):
		return r, usageError{errors.New("a live graph reads the namespace's addresses, and takes no --address")}
	case cc.IsSet("foreign") && !r.live:
		return r, usageError{errors.New("--foreign draws a table that is not weir's, and takes no configuration")}
	}
	return r, nil
}

func (cmd *command) graph(ctx context.Context, r drawn) error {
	draw := cmd.configuredGraph
	if r.live {
		draw = cmd.liveGraph
	}
	g, err := draw(ctx, r)
	if err != nil {
		return err
	}
	if r.format == formatHTML {
		return g.HTML(cmd.out)
	}
	return g.Mermaid(cmd.out)
}

// configuredGraph draws the state that a configuration makes.
func (cmd *command) configuredGraph(ctx context.Context, r drawn) (graph.Graph, error) {
	host, err := explain.ParsePod(cmd.cc.StringSlice("address")...)
	if err != nil {
		return graph.Graph{}, wrongAddress(err)
	}
	want, err := cmd.assumedRules(ctx, r.config, capture.Links(host.Links))
	if err != nil {
		return graph.Graph{}, err
	}
	name := "the configuration of the flags"
	if given, ok := flagValues(cmd.cc, "config"); ok {
		name = filepath.Base(input.Name(given[0]))
	}
	return show.Graph(name, cmd.table, want, host, r.packet), nil
}

// liveGraph draws what the namespace holds.
func (cmd *command) liveGraph(ctx context.Context, r drawn) (graph.Graph, error) {
	cmd.sweepTraces(ctx)
	g, err := show.LiveGraph(ctx, targetName(cmd.cc), cmd.target, r.config.TableName(), r.foreign, r.packet)
	if err != nil {
		return g, fmt.Errorf("graph %w", err)
	}
	return g, nil
}
