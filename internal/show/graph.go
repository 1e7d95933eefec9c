// SPDX-License-Identifier: Apache-2.0

//go:build linux

package show

import (
	"context"
	"fmt"

	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/conflict/sight"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/graph"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/sim"
)

// Graph draws the rules of a configuration as they would be in a host, with the path
// of a packet if there is one.
func Graph(table string, want explain.Rules, host sim.Host, packet *sim.Packet) graph.Graph {
	title := "inet " + table
	g := graph.Graph{Title: "table " + title, Notes: []string{"as a configuration says"}, Routing: want.State.Normal().Routing()}
	if want.State.Table != nil {
		g.Tables = []graph.Table{{Title: title, Table: sim.Table{Table: want.State.Normal().Table}}}
	}
	if packet != nil {
		follow(want.In(host).Explain(*packet), &g)
	}
	return g
}

// LiveGraph draws what a namespace holds: a table with its counters, where the base
// chains of the other tables stand, the routing of weir's table, and the path of a
// packet if there is one. The table is weir's, or the foreign one where that is named;
// the error is a [*NoTableError] where that is not there. An [*explain.InterfaceError]
// is that the packet arrives by an interface which the namespace lacks.
func LiveGraph(ctx context.Context, ns *netns.Namespace, table string, foreign TableName, packet *sim.Packet) (graph.Graph, error) {
	conn, err := ns.Nft()
	if err != nil {
		return graph.Graph{}, netns.WithAdvice(err)
	}
	defer conn.Close()
	drawn := foreign
	if foreign == (TableName{}) {
		drawn = TableName{"inet", table}
	}
	ruleset, err := conn.RulesetWith(ctx, drawn.is)
	if err != nil {
		return graph.Graph{}, err
	}
	g := graph.Graph{Title: "table " + drawn.String(), Counted: true}
	isMet := place(&g, ruleset, drawn)
	switch {
	case len(g.Tables) == 0 && drawn == foreign:
		return g, noTable(ruleset, drawn)
	case len(g.Tables) == 0:
		g.Notes = append(g.Notes, "there is no such table")
	}
	live, err := conn.Read(ctx, table)
	if err != nil {
		return g, err
	}
	g.Routing = live.State.Routing()
	seen, err := sight.Read(ctx, ns, conn, sight.Scope{Table: table})
	if err != nil {
		return g, err
	}
	for _, c := range conflict.Conflicts(live.State, seen.Seen) {
		g.Notes = append(g.Notes, "in the way: "+c.String())
	}
	if packet == nil {
		return g, nil
	}
	x, err := explain.Live(ctx, ns)
	if err != nil {
		return g, netns.WithAdvice(err)
	}
	if err := x.CheckInterfaces([]sim.Packet{*packet}); err != nil {
		return g, err
	}
	follow(x.Explain(*packet), &g)
	if !isMet {
		g.Journey = nil
	}
	return g, nil
}

// place puts the table that is drawn into the graph, and the base chains of the
// others. It reports whether packets meet the table.
func place(g *graph.Graph, ruleset *nft.Ruleset, drawn TableName) (isMet bool) {
	for _, t := range ruleset.Tables {
		if !drawn.is(t) {
			g.Beside = append(g.Beside, baseChains(t)...)
			continue
		}
		var met sim.Table
		met, isMet = explain.TableOf(t)
		g.Tables = []graph.Table{{Title: t.Title(), Table: met}}
		g.Notes = append(g.Notes, "as the namespace holds it")
	}
	return isMet
}

// follow puts a packet's path into the graph.
func follow(a explain.Answer, g *graph.Graph) {
	g.Journey = &a.Journey
	g.Notes = append(g.Notes, a.Headline())
	g.Fate = a.Says
}

// baseChains are the base chains of a table that sees packets at the hooks that weir's
// does.
func baseChains(t *nft.LiveTable) (out []graph.Chain) {
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
