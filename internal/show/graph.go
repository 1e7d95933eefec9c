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

// Graph draws the rules of a configuration of that name as they would be in a host, with the path
// of a packet if there is one.
func Graph(name, table string, want explain.Rules, host sim.Host, packet *sim.Packet) graph.Graph {
	title := "inet " + table
	g := graph.Graph{Title: name, Notes: []string{"table " + title + ", as the configuration says"}, Routing: want.State.Normal().Routing()}
	if want.State.Table != nil {
		g.Tables = []graph.Table{{Title: title, Table: sim.Table{Table: want.State.Normal().Table}}}
	}
	if packet != nil {
		follow(want.In(host).Explain(*packet), &g)
	}
	return g
}

// LiveGraph draws what a namespace of that name holds: a table with its counters, where the base
// chains of the other tables stand, the routing of weir's table, and the path of a
// packet if there is one. The table is weir's, or the foreign one where that is named;
// the error is a [*NoTableError] where that is not there. An [*explain.InterfaceError]
// is that the packet arrives by an interface which the namespace lacks.
func LiveGraph(ctx context.Context, name string, ns *netns.Namespace, table string, foreign TableName, packet *sim.Packet) (graph.Graph, error) {
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
	g := graph.Graph{Title: name, Counted: true}
	isMet := place(&g, ruleset, drawn)
	switch {
	case len(g.Tables) == 0 && drawn == foreign:
		return g, noTable(ruleset, drawn)
	case len(g.Tables) == 0:
		g.Notes = append(g.Notes, "there is no table "+drawn.String())
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
	var own *nft.LiveTable
	for _, t := range ruleset.Tables {
		if drawn.is(t) {
			own = t
		}
	}
	if own != nil {
		var met sim.Table
		met, isMet = sight.TableOf(own)
		g.Tables = []graph.Table{{Title: own.Title(), Age: ownAge, Table: met}}
		g.Notes = append(g.Notes, "table "+own.Title()+", as the namespace holds it")
	}
	for _, t := range ruleset.Tables {
		if t != own {
			g.Beside = append(g.Beside, baseChains(t, ageBeside(t, own))...)
		}
	}
	return isMet
}

const ownAge = 1

// ageBeside is the age of a table in a drawing of another one, as far as it is known.
func ageBeside(t, own *nft.LiveTable) int {
	if own == nil {
		return ownAge
	}
	switch t.Registered(own) {
	case nft.Before:
		return ownAge - 1
	case nft.After:
		return ownAge + 1
	}
	return ownAge
}

// follow puts a packet's path into the graph.
func follow(a explain.Answer, g *graph.Graph) {
	g.Journey = &a.Journey
	g.Title += ": " + a.Headline()
	g.Fate = a.Says
}

// baseChains are the base chains of a table that sees packets at the hooks that weir's does, or before and after them at a
// device.
func baseChains(t *nft.LiveTable, age int) (out []graph.Chain) {
	if t.Family != "inet" && t.Family != "ip" && t.Family != "ip6" && t.Family != "netdev" {
		return nil
	}
	met, _ := sight.TableOf(t)
	for _, c := range t.Chains {
		if c.Base != nil {
			out = append(out, graph.Chain{Title: t.Title() + " " + escape.Text(c.Name), Age: age, Table: met, Base: *c.Base,
				Note: fmt.Sprintf("%s (weir graph --foreign %q)", term.Count(len(c.Rules), "rule"), t.Title())})
		}
	}
	return out
}
