// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// engine is a program that captures traffic, told by what it calls its tables
// and chains.
type engine struct {
	name   string
	tables []string // prefixes of nftables tables
	chains []string // prefixes of chains, of iptables for the most part
	marks  []rules.PolicyRule
}

// engines are those whose left-overs are met in the wild. The marks and tables are the
// ones of istio's own rules, whatever modes use by default.
func engines() []engine {
	return []engine{
		{name: "istio", tables: []string{"istio-"}, chains: []string{"ISTIO_", "istio-"}, marks: []rules.PolicyRule{
			{Mark: 0x539, Mask: 0xffffffff, Table: 133}, {Mark: 0x111, Mask: 0xfff, Table: 100}}},
		{name: "linkerd", chains: []string{"PROXY_INIT_"}},
		{name: "kuma", chains: []string{"KUMA_MESH_", "MESH_"}},
		{name: "consul", chains: []string{"CONSUL_PROXY_", "CONSUL_DNS_"}},
		{name: "open service mesh", chains: []string{"OSM_PROXY_"}},
		{name: "app mesh", chains: []string{"APPMESH_"}},
		{name: "sing-box", tables: []string{"sing-box"}},
	}
}

func (e engine) hasTable(name string) bool { return hasPrefix(name, e.tables) }
func (e engine) hasChain(name string) bool { return hasPrefix(name, e.chains) }

func hasPrefix(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// hasRule reports whether another program's rule looks a table up by a mark of the engine's, and
// by nothing else.
func (e engine) hasRule(l netns.PolicyRule) bool {
	plain := !l.Own && !l.Not && l.Unsupported == "" && !l.From.IsValid() && !l.To.IsValid()
	return plain && slices.Contains(e.marks, rules.PolicyRule{Mark: l.Mark, Mask: l.Mask, Table: l.Table, In: l.In, Goto: l.Goto})
}

// Engines are other programs that capture of which something is there, with their signs:
// tables, chains and policy rules that are called as theirs are.
func Engines(tables []*nft.LiveTable, legacy []netns.LegacyTable, policy []netns.PolicyRule) []conflict.Engine {
	var out []conflict.Engine
	for _, e := range engines() {
		t := conflict.Engine{Name: e.name}
		for _, table := range tables {
			t.Signs = append(t.Signs, e.signs(table)...)
			t.Rules = t.Rules || len(e.signs(table)) > 0
		}
		for _, table := range legacy {
			if chains := keep(table.Chains, e.hasChain); len(chains) > 0 {
				t.Rules = true
				t.Signs = append(t.Signs, fmt.Sprintf("chains %s in iptables-legacy's table %s %s", strings.Join(escape.Texts(chains), ", "), table.Family, escape.Text(table.Name)))
			}
		}
		for _, r := range policy {
			if e.hasRule(r) {
				t.Signs = append(t.Signs, fmt.Sprintf("the policy rule %s fwmark 0x%x/0x%x lookup %d", r.Family, r.Mark, r.Mask, r.Table))
			}
		}
		if len(t.Signs) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (e engine) signs(t *nft.LiveTable) []string {
	if t.Tag != nil {
		return nil // weir's own
	}
	if e.hasTable(t.Name) {
		return []string{"table " + t.Title()}
	}
	var names []string
	for _, c := range t.Chains {
		names = append(names, c.Name)
	}
	if chains := keep(names, e.hasChain); len(chains) > 0 {
		return []string{fmt.Sprintf("chains %s in table %s", strings.Join(escape.Texts(chains), ", "), t.Title())}
	}
	return nil
}

func keep(list []string, which func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !which(s) })
}
