// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package sight reads in a network namespace what package conflict judges.
package sight

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Scope says which parts of a namespace to look at.
type Scope struct {
	Table   string // of the ruleset that is judged, of family inet
	Sockets bool   // look at sockets too: whether the proxy listens
	Newest  bool   // the ruleset's chains were registered just now, after everybody's

	// What the caller has just read is not read again.
	Alone      bool              // there is no table but the ruleset's own
	Interfaces *netns.Interfaces // nil: they are to be read
}

// Sight is what was seen, and what could not be.
type Sight struct {
	conflict.Seen
	Ruleset  []*nft.LiveTable    // all tables, unless it is Alone; of the ruleset's own the chains without rules and the sets without elements
	Legacy   []netns.LegacyTable // of iptables-legacy
	Unseen   []error             // why something was not looked at
	NoLegacy error               // why iptables-legacy's tables were not, which Unseen tells too
}

// Read reads what the namespace holds beside the ruleset's own. The error is that nothing
// could be read, among them nft.ErrNotPermitted; what alone could not be read is Unseen.
func Read(ctx context.Context, ns *netns.Namespace, conn *nft.Conn, s Scope) (Sight, error) {
	ruleset := &nft.Ruleset{}
	var err error
	if !s.Alone {
		if ruleset, err = conn.RulesetBeside(ctx, s.owns); err != nil {
			return Sight{}, err
		}
	}
	host, policy, err := ns.StackWith(ctx, s.Interfaces)
	if err != nil {
		return Sight{}, err
	}
	out := Sight{Seen: conflict.Seen{Tables: s.tables(ruleset), Links: host.Links, PolicyRules: host.PolicyRules, Routes: host.Routes, NoSockets: !s.Sockets}}
	if s.Sockets {
		if out.Sockets, err = ns.Listeners(ctx); err != nil {
			return out, err
		}
	}
	out.Ruleset = ruleset.Tables
	out.others(ns, policy)
	return out, nil
}

// With are all tables, of which the ruleset's own is given: it was read apart.
func (s *Sight) With(own *rules.Table) (out []*nft.LiveTable) {
	for _, t := range s.Ruleset {
		if own != nil && t.Family == "inet" && t.Name == own.Name {
			whole := *t
			whole.Table = own
			t = &whole
		}
		out = append(out, t)
	}
	return out
}

func (s Scope) owns(t *nft.LiveTable) bool {
	return t.Family == "inet" && slices.Contains([]string{s.Table, reserved.Next(s.Table), reserved.Lock}, t.Name)
}

// tables are those of others that see packets of IPv4 or IPv6.
func (s Scope) tables(ruleset *nft.Ruleset) (out []conflict.Table) {
	own := ruleset.Find("inet", s.Table)
	for _, t := range ruleset.Tables {
		met, is := TableOf(t)
		if !is || s.owns(t) {
			continue
		}
		out = append(out, conflict.Table{Table: met, FamilyName: t.Family, Owner: Owner(t), Age: s.age(t, own)})
	}
	return out
}

// TableOf is a table as packets meet it, and false where no packet of IPv4 or IPv6 does, or where
// it is at a bridge, which is not followed.
func TableOf(t *nft.LiveTable) (r sim.Table, met bool) {
	f, met := map[string]rules.Family{"inet": 0, "ip": rules.IPv4, "ip6": rules.IPv6, "netdev": 0}[t.Family]
	return sim.Table{Table: t.Table, Family: f, Netdev: t.Family == "netdev"}, met
}

func (s Scope) age(t, own *nft.LiveTable) conflict.Age {
	if s.Newest || own == nil { // an apply would make it
		return conflict.Older
	}
	switch t.Registered(own) {
	case nft.Before:
		return conflict.Older
	case nft.After:
		return conflict.Newer
	}
	return conflict.AgeUnknown
}

// others reads what stands outside of nftables and routing.
func (s *Sight) others(ns *netns.Namespace, policy []netns.PolicyRule) {
	var err error
	s.Legacy, s.NoLegacy = ns.LegacyTables()
	s.miss("iptables-legacy's tables", s.NoLegacy)
	s.Engines = Engines(s.Ruleset, s.Legacy, policy)
	s.Programs, err = ConnectPrograms()
	s.miss("programs on the cgroup's connect hook", err)
}

// ConnectPrograms are those on the cgroup's connect hooks. Where there are no cgroups no program
// can be.
func ConnectPrograms() (out []conflict.Program, err error) {
	programs, err := netns.ConnectPrograms()
	for _, p := range programs {
		out = append(out, conflict.Program{Attach: p.Attach, Name: p.Name})
	}
	if errors.Is(err, netns.ErrNoCgroup) {
		err = nil
	}
	return out, err
}

func (s *Sight) miss(what string, err error) {
	if err != nil {
		s.Unseen = append(s.Unseen, fmt.Errorf("%s were not looked at: %w", what, err))
	}
}
