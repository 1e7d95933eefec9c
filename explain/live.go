// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/conflict/sight"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Live explains packets by what a namespace holds now: every table on the hooks, its
// routing, addresses and sockets. It reads the namespace once, and needs
// CAP_NET_ADMIN there. Where something decides that nftables does not show
// (iptables-legacy, a bridge's rules), fates are [sim.Unknown] and
// say so.
func Live(ctx context.Context, ns *netns.Namespace) (*Explainer, error) {
	conn, err := ns.Nft()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ruleset, err := conn.Ruleset(ctx)
	if err != nil {
		return nil, err
	}
	host, err := ns.Host(ctx)
	if err != nil {
		return nil, err
	}
	legacy, noLegacy := ns.LegacyTables()
	if noLegacy != nil && !errors.Is(noLegacy, fs.ErrPermission) {
		return nil, noLegacy
	}
	tables, obstacle := packetTables(ruleset.Tables)
	lives := map[*rules.Table]*nft.LiveTable{}
	for _, t := range ruleset.Tables {
		lives[t.Table] = t
	}
	made := func(a, b *rules.Table) nft.Order { return lives[a].Registered(lives[b]) }
	if unseen := legacyRules(legacy); unseen != "" {
		obstacle = unseen
	}
	x := newExplainer(host, nil, func(h sim.Host) evaluator { return evaluateLive(h, tables, made, obstacle) })
	if noLegacy != nil { // as after unshare -Urn, where the files are those of the machine's root
		x.notes = append(x.notes, fmt.Sprintf("iptables-legacy's tables may not be read, and are taken as empty: %v", noLegacy))
	}
	programs, _ := sight.ConnectPrograms() // doctor tells where they cannot be read
	for _, c := range conflict.Programs(programs) {
		x.notes = append(x.notes, c.String())
	}
	x.foreign = foreignTables(ruleset.Tables)
	for _, t := range ruleset.Tables {
		if t.Tag != nil && t.Dormant {
			x.dormant = t.Title()
		}
	}
	for _, t := range tables {
		x.tables = append(x.tables, t.Table)
	}
	return x, nil
}

// Notes are what may change a packet and is not followed: programs of eBPF on the cgroup's connect hooks, which what is sent
// from here meets first, and tables of iptables-legacy that may not be read. There is none of rules that are not live.
func (x *Explainer) Notes() []string { return x.notes }

// foreignTables are the owners of tables that weir did not write, by their titles, where
// weir has a table too; "" where that is not known.
func foreignTables(tables []*nft.LiveTable) map[string]string {
	foreign, weir := map[string]string{}, false
	for _, t := range tables {
		if t.Tag != nil {
			weir = true
			continue
		}
		foreign[t.Title()] = sight.Owner(t)
	}
	if !weir {
		return nil
	}
	return foreign
}

// legacyRules says in which tables iptables-legacy has rules, "" for none.
func legacyRules(tables []netns.LegacyTable) string {
	var names []string
	for _, t := range tables {
		if t.Rules > 0 {
			names = append(names, t.Family+" "+t.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "iptables-legacy has rules in table " + strings.Join(names, ", ") + ", which nftables cannot see"
}

// packetTables are the tables that packets of IPv4 and IPv6 meet, and what among the
// others decides about such packets too, "" for nothing.
func packetTables(tables []*nft.LiveTable) (out []sim.Table, obstacle string) {
	for _, t := range tables {
		switch r, met := sight.TableOf(t); {
		case met:
			out = append(out, r)
		case t.Family == "bridge" && decides(t.Table):
			obstacle = "table " + t.Title() + " decides at the bridge, where weir does not follow"
		}
	}
	return out, obstacle
}

// decides reports whether packets meet anything in the table: rules, or a policy.
func decides(t *rules.Table) bool {
	return !t.Dormant &&
		slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return c.Base != nil && (c.Base.Drop || len(c.Rules) > 0) })
}
