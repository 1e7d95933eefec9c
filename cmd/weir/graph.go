//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/sim"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/graph"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/nft"
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
	config       *config.File
	live         bool
	family, name string // of another's table, "" for weir's
	packet       *sim.Packet
	format       string
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
	if r.family, r.name, err = foreignTable(cc); err != nil {
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
	case r.name != "" && !r.live:
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
	want, host, err := cmd.assumed(ctx, r.config)
	if err != nil {
		return graph.Graph{}, err
	}
	g := graph.Graph{Title: "table inet " + cmd.table, Notes: []string{"as a configuration says"}, Routing: want.State.Normal().Routing()}
	if want.State.Table != nil {
		g.Tables = []graph.Table{{Title: g.Title[len("table "):], Table: sim.Table{Table: want.State.Normal().Table}}}
	}
	if r.packet != nil {
		follow(want.In(host).Explain(*r.packet), &g)
	}
	return g, nil
}

// follow puts a packet's path into the graph.
func follow(a explain.Answer, g *graph.Graph) {
	g.Journey = &a.Journey
	g.Notes = append(g.Notes, a.Headline())
	g.Fate = a.Says
}

// liveGraph draws what the namespace holds: the table, and where the base chains of
// others stand.
func (cmd *command) liveGraph(ctx context.Context, r drawn) (graph.Graph, error) {
	if err := cmd.connect(ctx); err != nil {
		return graph.Graph{}, err
	}
	family, name := "inet", r.config.TableName()
	if r.name != "" {
		family, name = r.family, r.name
	}
	ruleset, err := cmd.conn.RulesetWith(ctx, elementsOf(family, name))
	if err != nil {
		return graph.Graph{}, err
	}
	g := graph.Graph{Title: fmt.Sprintf("table %s %s", family, escape.Text(name)), Counted: true}
	met := false
	for _, t := range ruleset.Tables {
		if t.Family == family && t.Name == name {
			var r sim.Table
			r, met = explain.TableOf(t)
			g.Tables = []graph.Table{{Title: t.Title(), Table: r}}
			g.Notes = append(g.Notes, "as the namespace holds it")
			continue
		}
		g.Beside = append(g.Beside, basesOf(t)...)
	}
	switch {
	case len(g.Tables) == 0 && r.name != "":
		return g, fmt.Errorf("graph %s %s: there is no such table%s", escape.Text(family), escape.Text(name), thereAre(ruleset))
	case len(g.Tables) == 0:
		g.Notes = append(g.Notes, "there is no such table")
	}
	live, err := cmd.conn.Read(ctx, r.config.TableName())
	if err != nil {
		return g, err
	}
	g.Routing = live.State.Routing()
	if r.packet != nil {
		x, err := explain.Live(ctx, cmd.target)
		if err != nil {
			return g, withAdvice(err)
		}
		if err := x.CheckInterfaces([]sim.Packet{*r.packet}); err != nil {
			return g, usageError{err}
		}
		follow(x.Explain(*r.packet), &g)
		if !met {
			g.Journey = nil
		}
	}
	return g, nil
}

// basesOf are the base chains of a table that sees packets at the hooks that weir's
// does.
func basesOf(t *nft.LiveTable) (out []graph.Chain) {
	if t.Family != "inet" && t.Family != "ip" && t.Family != "ip6" {
		return nil
	}
	for _, c := range t.Chains {
		if c.Base != nil {
			out = append(out, graph.Chain{Title: t.Title() + " " + escape.Text(c.Name), Base: *c.Base,
				Note: fmt.Sprintf("%s (weir graph --foreign %q)", term.Count(len(c.Rules), "rule"), t.Title())})
		}
	}
	return out
}
