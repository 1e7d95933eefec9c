// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package show gathers what there is to see of a network namespace: a table with its
// chains in the order in which packets meet them, its rules with their reasons and
// counters, its sets, its routing, and the chains of other programs; as data for people
// and programs (View), or as a graph to draw.
//
// It changes nothing, and prints nothing.
package show

import (
	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// View is a table that is live, as programs and people read it.
type View struct {
	Family  string   `json:"family"`
	Table   string   `json:"table"`
	Present bool     `json:"present"`
	State   string   `json:"state,omitempty"`   // the hash; "" of another program's table
	Written string   `json:"written,omitempty"` // what the tag says: by which version, and what
	Drifted bool     `json:"drifted"`           // it is not as it was written
	Drains  bool     `json:"draining,omitempty"`
	Chains  []Chain  `json:"chains"`
	Sets    []Set    `json:"sets"`
	Routing []string `json:"routing"`
	Others  []string `json:"others,omitempty"` // objects of the table that weir does not know
	Foreign []string `json:"foreign"`          // base chains of other programs, and when they run

	// Conflicts are what keeps captured traffic from the proxy.
	Conflicts []conflict.Conflict `json:"conflicts,omitempty"`

	Configuration *Agreement `json:"configuration,omitempty"` // nil where none was given
}

// Agreement is how a live state compares with a configuration.
type Agreement struct {
	Same        bool               `json:"same"`
	Differences []rules.Difference `json:"differences"`
}

// Chain is a chain; one without a type is reached by jumps.
type Chain struct {
	Name     string `json:"name"`
	Type     string `json:"type,omitempty"`
	Hook     string `json:"hook,omitempty"`
	Priority int32  `json:"priority"`
	Drop     bool   `json:"drop,omitempty"` // the policy
	Rules    []Rule `json:"rules"`
}

// Rule is a rule as nft prints it, without its comment, which is the reason.
type Rule struct {
	Reason  string `json:"reason,omitempty"`
	Text    string `json:"text"`
	Counted bool   `json:"counted"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Set is a set or a map.
type Set struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Elements []string `json:"elements"`
}

// Of is the view of weir's table, present or not.
func Of(table string, live *nft.Live) View {
	v := emptyView("inet", table)
	v.Routing = append(v.Routing, live.State.Routing()...)
	for _, f := range live.Foreign {
		v.Foreign = append(v.Foreign, f.String()+": "+foreignOrder(live.State.Table, f.Base))
	}
	t := live.State.Table
	if t == nil {
		return v
	}
	v.State = live.State.Hash()
	if live.Tag != nil {
		v.Written = live.Tag.String()
	}
	drift, err := live.Drift()
	v.Drifted = err != nil || len(drift) > 0
	v.Drains = continuity.IsDraining(t)
	v.fill(t)
	return v
}

// Compare adds how the table compares with a configuration: in what it differs.
func (v *View) Compare(differences []rules.Difference) {
	v.Configuration = &Agreement{Same: len(differences) == 0, Differences: append([]rules.Difference{}, differences...)}
}

func emptyView(family, table string) View {
	return View{Family: family, Table: table, Chains: []Chain{}, Sets: []Set{}, Routing: []string{}, Foreign: []string{}}
}

// fill takes in the parts of the table, which is there.
func (v *View) fill(t *rules.Table) {
	v.Present, v.Others = true, t.Unsupported()
	for _, s := range t.Sets {
		set := Set{Name: s.Name, Type: s.Declaration(), Elements: []string{}}
		for _, e := range s.Elements {
			set.Elements = append(set.Elements, e.Text(s.Key))
		}
		v.Sets = append(v.Sets, set)
	}
	for _, c := range t.PacketOrder() {
		v.Chains = append(v.Chains, chainOf(c))
	}
}

func chainOf(c *rules.Chain) Chain {
	out := Chain{Name: c.Name, Rules: []Rule{}}
	if b := c.Base; b != nil {
		out.Type, out.Hook, out.Priority, out.Drop = string(b.Type), b.Hook.String(), b.Priority, b.Drop
	}
	for _, r := range c.Rules {
		rule := Rule{Reason: r.Reason}
		for _, n := range r.Nodes {
			if count, ok := n.(rules.Counter); ok {
				rule.Counted, rule.Packets, rule.Bytes = true, count.Packets, count.Bytes
			}
		}
		r.Reason = ""
		rule.Text = r.String()
		out.Rules = append(out.Rules, rule)
	}
	return out
}
