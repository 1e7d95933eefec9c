// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trace

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// collector makes packets of notifications.
type collector struct {
	ctx         context.Context
	conn        *nft.Conn
	target      *netns.Namespace
	show        func(*Packet) error
	most        int // connections, 0 for any number
	started     int
	full        bool            // a connection more than that matched
	connections map[string]bool // that began
	shown       int
	ruleset     *nft.Ruleset
	read        time.Time // when the ruleset was read
	links       map[int]string
	pending     []*Packet // on their way, in order of their first notifications
}

const (
	receiveTick    = 50 * time.Millisecond
	quietTime      = 150 * time.Millisecond // a packet with no notification for so long has arrived
	rereadPause    = time.Second            // between reads of a ruleset that changed meanwhile
	maxPending     = 4096                   // packets on their way
	maxConnections = 1 << 16                // that are told apart
)

// refresh reads the rules that notifications name by numbers.
func (c *collector) refresh() error {
	c.read = time.Now()
	ruleset, err := c.conn.RulesetWith(c.ctx, func(*nft.LiveTable) bool { return false })
	if err != nil {
		return err
	}
	links, err := c.target.LinkNames(c.ctx)
	if err != nil {
		return err
	}
	c.ruleset, c.links = ruleset, links
	return nil
}

// follow shows packets until the time, the number of packets, or the end of the
// context, which is an ordinary way to end.
func (c *collector) follow(t *nft.Trace, end time.Time) error {
	for c.ctx.Err() == nil && time.Now().Before(end) {
		events, err := t.Receive(time.Now().Add(receiveTick))
		if err != nil {
			return err
		}
		now := time.Now()
		for _, e := range events {
			if err := c.take(e, now); err != nil {
				return err
			}
		}
		if err := c.arrived(now.Add(-quietTime)); err != nil {
			return err
		}
		if c.most > 0 && c.started >= c.most && !slices.ContainsFunc(c.pending, func(p *Packet) bool { return !p.unasked }) {
			return nil
		}
	}
	return c.arrived(time.Now())
}

// take adds a notification to its packet. The chains of another trace are not
// steps of the packet.
func (c *collector) take(e nft.TraceEvent, now time.Time) error {
	if e.Other {
		return nil
	}
	p := c.pendingWith(e.ID)
	begins := e.Own && e.Handle != 0
	if p == nil || begins || e.Own && p.met {
		if len(c.pending) >= maxPending {
			if err := c.showFirst(1); err != nil {
				return err
			}
		}
		p = c.begin(e, begins, now)
	}
	p.last = now
	p.describe(e, c.links)
	switch {
	case e.Own:
		p.met = p.met || e.Kind == nft.TracePolicy
	case e.Kind == nft.TracePolicy || e.Handle != 0: // otherwise it is the end of a chain
		p.Steps = append(p.Steps, c.step(e))
	}
	return nil
}

// begin is a packet at its first notification: it matched, or it matched before
// and comes again. Packets that another program has the kernel trace were not asked
// for.
func (c *collector) begin(e nft.TraceEvent, matched bool, now time.Time) *Packet {
	p := &Packet{id: e.ID, Time: now, Again: !matched, Steps: []Step{}}
	p.describe(e, c.links)
	known := p.ports && c.connections[p.connection()]
	c.full = c.full || matched && !known && c.most > 0 && c.started == c.most
	p.unasked = c.full && !known || !matched && !c.continues(p)
	if matched && !known && !p.unasked {
		c.started++
		if len(c.connections) < maxConnections {
			c.connections[p.connection()] = true
		}
	}
	if matched && !p.unasked {
		p.UID = owner(c.ctx, c.target, p) // while the socket is there
	}
	c.pending = append(c.pending, p)
	return p
}

// continues reports whether a packet that was asked for, on its way or just arrived, has
// the source of this one: redirects and routes leave that as it is.
func (c *collector) continues(p *Packet) bool {
	return slices.ContainsFunc(c.pending, func(o *Packet) bool {
		return !o.unasked && o.Protocol == p.Protocol && o.Source == p.Source
	})
}

// pendingWith is the latest packet with that number: the kernel reuses them.
func (c *collector) pendingWith(id uint32) *Packet {
	for i := len(c.pending) - 1; i >= 0; i-- {
		if c.pending[i].id == id {
			return c.pending[i]
		}
	}
	return nil
}

// arrived shows the packets with no notification since then.
func (c *collector) arrived(since time.Time) error {
	n := 0
	for n < len(c.pending) && c.pending[n].last.Before(since) {
		n++
	}
	return c.showFirst(n)
}

func (c *collector) showFirst(n int) error {
	for _, p := range c.pending[:n] {
		if p.unasked || p.Again && len(p.Steps) == 0 {
			continue
		}
		c.shown++
		p.Number = c.shown
		if err := c.show(p); err != nil {
			return err
		}
	}
	c.pending = c.pending[n:]
	return nil
}

// step is a notification in words.
func (c *collector) step(e nft.TraceEvent) Step {
	s := Step{Family: e.Family, Table: e.Table, Chain: e.Chain}
	t := c.ruleset.Find(e.Family, e.Table)
	place, known := nft.RulePlace{}, false
	if t != nil && e.Kind == nft.TraceRule {
		place, known = t.Rule(e.Handle)
	}
	if (t == nil || e.Kind == nft.TraceRule && !known) && time.Since(c.read) > rereadPause {
		if err := c.refresh(); err == nil {
			return c.step(e)
		}
	}
	s.Foreign = t == nil || t.Tag == nil
	switch {
	case e.Kind == nft.TracePolicy:
		s.Verdict = "policy accept"
		if e.Drop {
			s.Verdict = "policy drop"
		}
	case known:
		r := t.Chain(place.Chain).Rules[place.Index]
		s.Rule, s.Reason, s.Verdict = place.Index+1, r.Reason, decided(r, e.Verdict)
		r.Reason = ""
		s.Text = r.String()
	default:
		s.Text, s.Verdict = fmt.Sprintf("a rule that is gone (handle %d)", e.Handle), statement(e.Verdict)
	}
	return s
}

// decided is what a rule did to the packet, in its statement's words where that
// ended the rule.
func decided(r rules.Rule, v rules.Verdict) string {
	if v.Kind == rules.AcceptKind && len(r.Nodes) > 0 {
		switch last := r.Nodes[len(r.Nodes)-1].(type) {
		case rules.Redirect, rules.TProxy, rules.SNAT, rules.DNAT:
			return statement(last)
		}
	}
	return statement(v)
}

func statement(n rules.Node) string { return rules.Rule{Nodes: []rules.Node{n}}.String() }
