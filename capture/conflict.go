// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/conflict/sight"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Conflict is one thing in a namespace that keeps captured traffic from where it should
// go: a chain, policy rule, route, setting, socket or program of another owner. Its String is
// a sentence, and its fields are
//
//	Kind    string      // which sort of thing, a word of those below
//	Subject string      // what it is and where
//	Does    string      // what it does, to which traffic: to be read after Subject
//	Traffic []string    // the captured traffic that it touches, by classes
//	May     bool        // it cannot be told for certain
//	Takes   bool        // captured traffic ends elsewhere than at the proxy, without an error
//	Example *sim.Packet // a packet that it touches; nil where none was evaluated
//	Table   string      // of nftables, as "FAMILY NAME"; "" where it is not a chain
//	Owner   string      // whose it is; "" where that is not known
//	Remedy  string      // what to do about it
//
// Kind is a string type. A foreign chain is one that drops, redirects, bypasses, changes-marks
// or untracks captured traffic, or has the same-priority as one of the table's; policy-rule,
// route and address are routing of another owner; source-validation, no-address, loopback-down
// new-ipv6 and new-interface what the namespace is like; no-listener, not-transparent, unmarked, one-family
// and foreign-listener what listens for captured traffic; other-engine and connect-program
// other programs that redirect.
type Conflict = conflict.Conflict

// Conflicts are what stands in the way of what is wanted, gravest first, and what could
// not be looked at; of [OfTable], in the way of what the table holds. It changes nothing.
func (c *Capture) Conflicts(ctx context.Context) (found []Conflict, unseen []error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx, &Notices{}); err != nil {
		return nil, nil, err
	}
	live, err := c.conn.Read(ctx, c.table)
	if err != nil {
		return nil, nil, c.failed("look at", err)
	}
	var w wanted
	if !c.written {
		if w, err = c.wanted(ctx); err != nil {
			return nil, nil, err
		}
	}
	return c.conflictsOf(ctx, live, w)
}

// conflictsOf are the conflicts beside what is live, with what is wanted unless the table is to
// be as it was written.
func (c *Capture) conflictsOf(ctx context.Context, live *nft.Live, w wanted) ([]Conflict, []error, error) {
	state := live.State
	if !c.written {
		state = w.state
		if len(live.State.PolicyRules) > 0 {
			state.PolicyRules = live.State.PolicyRules // which may stand elsewhere than an apply would have them now
		}
		if _, later := live.Standing(w.state); len(later) > 0 {
			state.Routes = slices.DeleteFunc(slices.Clone(state.Routes), func(r rules.Route) bool { return slices.Contains(later, r) })
		}
	}
	return c.conflicts(ctx, state, sight.Scope{Table: c.table, Sockets: true, Alone: live.Alone(), Interfaces: w.seen})
}

func (c *Capture) conflicts(ctx context.Context, state rules.State, scope sight.Scope) ([]Conflict, []error, error) {
	if state.Table == nil {
		return nil, nil, nil
	}
	s, err := sight.Read(ctx, c.ns, c.conn, scope)
	if err != nil {
		return nil, nil, fmt.Errorf("look for conflicts: %w", err)
	}
	s.IPv6 = c.choice()
	return conflict.Conflicts(state.Normal(), s.Seen), s.Unseen, nil
}

// choice is whether the configuration leaves to the namespace if IPv6 is captured.
func (c *Capture) choice() conflict.Choice {
	if c.written || c.state != nil {
		return conflict.NotKnown
	}
	return conflict.ChoiceOf(c.config)
}

// beside are the conflicts with what an apply made. Where the namespace holds nothing
// that may be in its way they are not looked for, which takes as long as an apply.
func (c *Capture) beside(ctx context.Context, w wanted, r *Report) {
	hooked := func() bool { programs, _ := sight.ConnectPrograms(); return len(programs) > 0 } // who may not ask is not warned
	if !r.LoopbackDown && len(r.Foreign) == 0 && len(w.state.PolicyRules) == 0 && !namesLinks(w.state.Table) && !hooked() {
		return
	}
	scope := sight.Scope{Table: c.table, Newest: r.Outcome == nft.Created || r.Outcome == nft.Replaced}
	r.Conflicts, r.Unseen, r.Unjudged = c.conflicts(ctx, w.state, scope)
}

// namesLinks reports whether the rules go by interfaces other than lo.
func namesLinks(t *rules.Table) bool {
	return slices.ContainsFunc(t.Chains, func(ch *rules.Chain) bool {
		return slices.ContainsFunc(ch.Rules, func(r rules.Rule) bool {
			return slices.ContainsFunc(r.Nodes, func(n rules.Node) bool {
				m, is := n.(rules.Match)
				return is && slices.Contains(m.Key, rules.IIfName.Selector()) && (m.Set != "" || !onlyLoopback(m))
			})
		})
	})
}

func onlyLoopback(m rules.Match) bool {
	lo := rules.RangeOf(rules.IfName("lo"))
	return len(m.Elements) == 1 && len(m.Elements[0].Key) == 1 && m.Elements[0].Key[0] == lo
}

// ConflictMessages are conflicts in words, each with its remedy: warnings, or notes.
func ConflictMessages(all []Conflict, warn bool) (out []Message) {
	for _, c := range all {
		out = append(out, Message{Warning: warn, Text: c.String() + "; remedy: " + c.Remedy})
	}
	return out
}
