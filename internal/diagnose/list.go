// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/conflict/sight"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Residence is a network namespace that processes are in, or that has a name.
type Residence struct {
	PID     int      `json:"pid,omitempty"` // of the oldest of them
	Process string   `json:"process,omitempty"`
	Netns   string   `json:"netns,omitempty"` // its name in netns.Folder
	Pod     string   `json:"pod,omitempty"`
	Engines []string `json:"engines"`          // that have rules there
	Tables  []Holder `json:"tables"`           // weir's
	Unread  string   `json:"unread,omitempty"` // what else may have rules there, and why it may not be read
	Error   string   `json:"error,omitempty"`
}

// Holder is a table of weir's in a namespace.
type Holder struct {
	Table   string `json:"table"`
	Version string `json:"version"`
	State   string `json:"state"`
	Clean   bool   `json:"clean"` // it is as weir wrote it

	// Conflicts are chains and policy rules of others that keep captured traffic from the
	// proxy, those that are certain.
	Conflicts []conflict.Conflict `json:"conflicts,omitempty"`
}

// look reads what a namespace holds, if it is still the one that was listed.
func (r *Residence) look(ctx context.Context, open func() (*netns.Namespace, error), listed uint64) error {
	t, err := open()
	if err != nil {
		return fmt.Errorf("list: %w%s", err, netns.Advice(err))
	}
	defer t.Close()
	if now, err := t.Inode(); err != nil || now != listed {
		return fmt.Errorf("another network namespace is there than when it was listed: %w", cmp.Or(err, netns.ErrNotExist))
	}
	conn, err := t.Nft()
	if err != nil {
		return netns.WithAdvice(err)
	}
	defer conn.Close()
	conn.LimitReading(maxLookRead)
	ruleset, err := conn.RulesetWith(ctx, noElements)
	if err != nil {
		return err
	}
	policy, err := t.PolicyRules(ctx)
	if err != nil {
		return err
	}
	legacy, err := t.LegacyTables()
	switch {
	case errors.Is(err, fs.ErrPermission): // as after unshare -Urn, where the files are those of the machine's root
		r.Unread = fmt.Sprintf("iptables-legacy: %v", err)
	case err != nil:
		return err
	}
	if err := r.own(ctx, t, conn, ruleset); err != nil {
		return err
	}
	for _, s := range sight.Engines(ruleset.Tables, legacy, policy) {
		r.Engines = append(r.Engines, s.Name)
	}
	if len(r.Engines) == 0 {
		r.Engines = append(r.Engines, unknownCapture(ruleset.Tables)...)
	}
	return nil
}

// own finds weir's tables, and whether they are as it wrote them.
func (r *Residence) own(ctx context.Context, ns *netns.Namespace, conn *nft.Conn, ruleset *nft.Ruleset) error {
	for _, t := range ruleset.Tables {
		if t.Tag == nil || t.Family != "inet" || t.Name == reserved.Escapes { // which captures nothing
			continue
		}
		live, err := conn.Read(ctx, t.Name)
		if err != nil {
			return err
		}
		drift, err := live.Drift()
		h := Holder{Table: t.Name, Version: t.Tag.Version, State: t.Tag.Hash, Clean: err == nil && len(drift) == 0}
		if len(live.Foreign)+len(live.State.PolicyRules) > 0 { // nothing else is looked for: there may be a thousand namespaces
			seen, err := sight.Read(ctx, ns, conn, sight.Scope{Table: t.Name})
			if err != nil {
				return err
			}
			for _, c := range conflict.Conflicts(live.State, seen.Seen) {
				if !c.May {
					h.Conflicts = append(h.Conflicts, c)
				}
			}
		}
		r.Tables = append(r.Tables, h)
	}
	if len(r.Tables) > 0 {
		r.Engines = append(r.Engines, "weir")
	}
	return nil
}

// unknownCapture are the tables of programs that are none of the known engines and
// redirect all the same.
func unknownCapture(tables []*nft.LiveTable) (out []string) {
	for _, t := range tables {
		if t.Tag == nil && holdsNode(t.Table, redirects) {
			out = append(out, "table "+t.Title())
		}
	}
	return out
}

func redirects(n rules.Node) bool {
	switch n.(type) {
	case rules.Redirect, rules.TProxy:
		return true
	}
	return false
}

func holdsNode(t *rules.Table, is func(rules.Node) bool) bool {
	return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		return slices.ContainsFunc(c.Rules, func(r rules.Rule) bool { return slices.ContainsFunc(r.Nodes, is) })
	})
}
