// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/capture/internal/policy"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Report is what an apply or a remove found and did; its Outcome, [nft.Created] or
// another, says which in a word. Beside an error it holds what was met up to there.
type Report struct {
	nft.Result
	Notices
	Table        string
	Version      string         // of the program that applies, as its tag says
	State        string         // the hash of what was applied; "" of a remove
	Conflicts    []Conflict     // what keeps captured traffic from the proxy; see [Capture.Conflicts], which looks at listeners too
	Unseen       []error        // why something that may be in the way was not looked at
	Unjudged     error          // why nothing was
	Unread       []rules.Sysctl // settings that the rules need, and that /proc/sys does not have
	HostNetwork  bool           // it captures the machine's own network namespace, as Options.HostNetwork allows
	LoopbackDown bool           // lo is down: nothing that is redirected arrives until it is up
	ResetOpen    int            // connections that a first apply without connection tracking resets, as Options.ResetOpen allows
	Downgrade    bool           // it changed what a newer version wrote, that of Previous
}

// Messages are the report's notices in words, in the order in which they were met; see
// [Notices.Messages].
func (r Report) Messages() []Message {
	out := r.Notices.Messages()
	warn := func(format string, args ...any) {
		out = append(out, Message{Warning: true, Text: fmt.Sprintf(format, args...)})
	}
	if r.LoopbackDown && len(r.Conflicts) == 0 {
		warn("lo is down: %s", policy.LoopbackDown)
	}
	for _, s := range r.Unread {
		warn("whether %s is %s was not looked at, since /proc/sys does not have it: %s", s.Name, s.Value, s.Why)
	}
	if r.ResetOpen > 0 {
		warn("open connections that this first apply resets: %d", r.ResetOpen)
	}
	if r.Downgrade {
		out = append(out, Message{Text: fmt.Sprintf("what was here was written by weir %s, which is newer than this, %s", r.Previous.Version, r.Version)})
	}
	if r.LockHeld != nil {
		warn("went on without the lock: table inet %s belongs to %s", reserved.Lock, r.LockHeld)
	}
	out = append(out, ConflictMessages(r.Conflicts, true)...)
	if r.Unjudged != nil {
		warn("%v", r.Unjudged)
	}
	if r.Unlisted != nil {
		warn("connections that were open may be reset: %v", r.Unlisted)
	}
	if r.Unforgotten != nil {
		warn("a connection may go past the proxy where one between the same ports has ended: %v", r.Unforgotten)
	}
	return out
}

// Apply makes the namespace hold what is wanted, proves it by reading back, and tells
// what it did. Of mode none it is Remove, but that the machine's own namespace is
// refused. On an error the former state is in force.
//
// Errors are ErrHostNetwork, ErrLoopbackDown, ErrEmptyState, a [*modes.ConfigError]
// for each problem that the configuration has in this environment, and those of
// [nft.Session.Apply]: [*nft.RejectedError], [*nft.DriftError], [*nft.NotOursError],
// nft.ErrChanged, nft.ErrNotPermitted.
func (c *Capture) Apply(ctx context.Context) (Report, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.newReport()
	if c.written {
		return r, c.failed("apply", ErrEmptyState)
	}
	var err error
	if r.HostNetwork, err = policy.AllowHost(c.config.Mode, c.options.HostNetwork, isHost(c.ns)); err != nil {
		return r, err
	}
	if err := c.connect(ctx, &r.Notices); err != nil {
		return r, err
	}
	w, err := c.wanted(ctx)
	r.Notes = w.notes
	if err != nil {
		return r, err
	}
	if w.state.Table == nil {
		return r, c.failed("apply", c.remove(ctx, &r))
	}
	if !c.options.LoopbackLater {
		if r.LoopbackDown, err = policy.Loopback(c.config.Mode, w.state, c.loopbackUp(ctx, w)); err != nil {
			return r, err
		}
	}
	if err := c.prepareUntracked(ctx, w.state, &r); err != nil {
		return r, c.failed("apply", err)
	}
	programs, err := c.programs(w.state)
	if err != nil {
		return r, c.failed("apply", err)
	}
	unassign, err := assignMark(programs) // before the rules: what the proxy opens from now on has its mark
	if err == nil {
		r.Result, err = c.session.Apply(ctx, w.state)
	}
	if err != nil {
		return r, c.failed("apply", errors.Join(err, unassign()))
	}
	if err := c.unassignMark(programs...); err != nil { // those of a former configuration's
		return r, c.failed("apply", err)
	}
	r.State = w.state.Hash()
	c.beside(ctx, w, &r)
	r.Downgrade = policy.Downgrade(r.Version, r.Result)
	return r, nil
}

// Remove removes everything that weir created under the table's name, and nothing
// else: the table with its probe set, its policy rules, routes and addresses. That nothing
// is left to remove is the outcome nft.Absent, and no error. Captured connections do not
// outlive the rules: with Options.Drain they get time to end. A drain that is interrupted is
// a [*nft.DrainedError]: nothing new is captured any more.
func (c *Capture) Remove(ctx context.Context) (Report, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.newReport()
	if err := c.connect(ctx, &r.Notices); err != nil {
		return r, err
	}
	return r, c.failed("remove", c.remove(ctx, &r))
}

func (c *Capture) remove(ctx context.Context, r *Report) (err error) {
	removing := c.options.Removing
	if removing == nil {
		removing = func(Captured) {}
	}
	if c.options.Drain > 0 {
		r.Result, err = c.session.Drain(ctx, c.options.Drain, removing)
	} else {
		r.Result, err = c.reset(ctx, removing)
	}
	r.Downgrade = policy.Downgrade(r.Version, r.Result)
	return errors.Join(err, c.unassignMark())
}

// reset removes at once, and counts the connections that end with that.
func (c *Capture) reset(ctx context.Context, removing func(Captured)) (nft.Result, error) {
	captured, err := c.session.Captured(ctx)
	if err != nil {
		return nft.Result{}, err
	}
	if captured.Any() {
		removing(captured)
	}
	result, err := c.session.Remove(ctx)
	result.Reset = captured.Redirected + captured.Proxied
	return result, err
}

func (c *Capture) newReport() Report { return Report{Table: c.table, Version: c.version()} }
