//go:build linux

package main

import (
	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// view is what is live, as programs and people read it.
type view struct {
	Family  string      `json:"family"`
	Table   string      `json:"table"`
	Present bool        `json:"present"`
	State   string      `json:"state,omitempty"` // the hash
	Written string      `json:"written,omitempty"`
	Drifted bool        `json:"drifted"`
	Drains  bool        `json:"draining,omitempty"`
	Chains  []chainView `json:"chains"`
	Sets    []setView   `json:"sets"`
	Routing []string    `json:"routing"`
	Others  []string    `json:"others,omitempty"`
	Foreign []string    `json:"foreign"`

	Configuration *agreement `json:"configuration,omitempty"` // where one was given
}

// agreement is how the live state stands to a configuration.
type agreement struct {
	Same        bool         `json:"same"`
	Differences []difference `json:"differences"`
}

type chainView struct {
	Name     string     `json:"name"`
	Type     string     `json:"type,omitempty"`
	Hook     string     `json:"hook,omitempty"`
	Priority int32      `json:"priority"`
	Drop     bool       `json:"drop,omitempty"` // the policy
	Rules    []ruleView `json:"rules"`
}

type ruleView struct {
	Reason  string `json:"reason,omitempty"`
	Text    string `json:"text"`
	Counted bool   `json:"counted"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

type setView struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Elements []string `json:"elements"`
}

func emptyView(table string) view {
	return view{Family: "inet", Table: table, Chains: []chainView{}, Sets: []setView{}, Routing: []string{}, Foreign: []string{}}
}

func newView(table string, live *nft.Live) view {
	v := emptyView(table)
	v.Routing = append(v.Routing, live.State.Routing()...)
	for _, f := range live.Foreign {
		v.Foreign = append(v.Foreign, f.String()+": "+foreignChainOrder(live.State.Table, f.Base))
	}
	t := live.State.Table
	if t == nil {
		return v
	}
	v.Present, v.State = true, live.State.Hash()
	if live.Tag != nil {
		v.Written = live.Tag.String()
	}
	if drift, err := live.Drift(); err != nil || len(drift) > 0 {
		v.Drifted = true
	}
	v.Drains = continuity.IsDraining(t)
	v.fill(t)
	return v
}

// fill takes the table's parts in, chains in the order in which packets meet them.
func (v *view) fill(t *rules.Table) {
	v.Others = t.Unsupported()
	for _, s := range t.Sets {
		sv := setView{Name: s.Name, Type: s.Declaration(), Elements: []string{}}
		for _, e := range s.Elements {
			sv.Elements = append(sv.Elements, e.Text(s.Key))
		}
		v.Sets = append(v.Sets, sv)
	}
	for _, c := range t.PacketOrder() {
		v.Chains = append(v.Chains, newChainView(c))
	}
}

func newChainView(c *rules.Chain) chainView {
	v := chainView{Name: c.Name, Rules: []ruleView{}}
	if b := c.Base; b != nil {
		v.Type, v.Hook, v.Priority, v.Drop = string(b.Type), b.Hook.String(), b.Priority, b.Drop
	}
	for _, r := range c.Rules {
		rv := ruleView{Reason: r.Reason}
		for _, n := range r.Nodes {
			if count, ok := n.(rules.Counter); ok {
				rv.Counted, rv.Packets, rv.Bytes = true, count.Packets, count.Bytes
			}
		}
		r.Reason = ""
		rv.Text = r.String()
		v.Rules = append(v.Rules, rv)
	}
	return v
}
