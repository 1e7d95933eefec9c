// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/rules"
)

// drainPause is the time between two listings of the connections that are left.
const drainPause = 100 * time.Millisecond

// DrainedError means that a drain ended early: nothing is captured any more, and the
// table that keeps translating for the captured connections is still there.
type DrainedError struct {
	Table string
	Left  int // connections that were captured, and go on
	Err   error
}

func (e *DrainedError) Error() string {
	return fmt.Sprintf("table inet %s is draining: nothing new is captured, and %d captured connections go on; weir remove ends them, weir apply captures again: %v", e.Table, e.Left, e.Err)
}

// Unwrap is why the drain ended.
func (e *DrainedError) Unwrap() error { return e.Err }

// errCapturesAgain is why a drain removes nothing.
var errCapturesAgain = errors.New("it captures again: another apply has ended the drain, and nothing was removed")

// Drain captures nothing more from now on, waits until no connection is left of
// those that are captured, at most for that time, and removes. What is left then is
// reset, and told in the result. A table that another apply has made capture again stays.
func (s *Session) Drain(ctx context.Context, limit time.Duration, begun func(Captured)) (Result, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	end := time.Now().Add(limit)
	// With its elements, unlike a remove: what is kept of the table looks them up.
	live, err := s.conn.readUnlocked(ctx, s.Table, rules.State{}, everything())
	if err != nil {
		return Result{}, err
	}
	s.live = live
	before, err := s.conn.captured(ctx, live.State.Table)
	if err != nil {
		return Result{}, err
	}
	if !before.Any() {
		return s.settle(ctx, rules.State{})
	}
	if err := live.refusal(rules.State{}); err != nil {
		return Result{}, err
	}
	draining := live.State
	if !continuity.IsDraining(draining.Table) {
		draining.Table = continuity.Draining(draining.Table)
		draining = draining.Normal()
		if err := draining.CheckNormal(); err != nil {
			return Result{}, fmt.Errorf("drain: %w", err)
		}
		if result, err := s.settle(ctx, draining); err != nil {
			return result, fmt.Errorf("drain: %w", err)
		}
	}
	all, err := s.conn.captured(ctx, draining.Table)
	if err != nil {
		return Result{}, &DrainedError{s.Table, before.Redirected + before.Proxied, err}
	}
	begun(all)
	s.drains = true
	defer func() { s.drains = false }()
	left, err := s.awaitEnd(ctx, all, end)
	switch {
	case errors.Is(err, errCapturesAgain):
		return Result{}, err
	case err != nil:
		return Result{}, &DrainedError{s.Table, left, err}
	}
	result, err := s.settle(ctx, rules.State{})
	if result.Outcome == Removed {
		result.Reset, result.Uncounted = left, all.Uncounted
	}
	return result, err
}

// awaitEnd waits until the connections or the table have ended or the time is over, and
// reports how many connections are left.
func (s *Session) awaitEnd(ctx context.Context, all Captured, end time.Time) (left int, err error) {
	left = len(all.cookies)
	for (left > 0 || all.Uncounted != nil) && time.Now().Before(end) {
		if err := pause(ctx, min(drainPause, time.Until(end))); err != nil {
			return left, err
		}
		if gone, err := s.drainingTableGone(ctx); gone || err != nil {
			return left, err
		}
		sockets, err := s.conn.tcpSockets(ctx)
		switch {
		case err != nil && ctx.Err() == nil && all.Uncounted != nil:
			continue // they cannot be told: the whole time is theirs
		case err != nil:
			return left, err
		}
		left = 0
		for _, socket := range sockets {
			if socket.Open() && all.cookies[socket.Cookie] {
				left++
			}
		}
	}
	return left, nil
}

// drainingTableGone reports whether another remove has taken the draining table away. The
// error is errCapturesAgain where another apply did.
func (s *Session) drainingTableGone(ctx context.Context) (gone bool, err error) {
	defer s.conn.endWatch()
	if err := s.refresh(ctx, rules.State{}); err != nil {
		return false, err
	}
	return s.live.State.Table == nil, s.notDraining()
}

// notDraining is why what is live is not a drain's to remove.
func (s *Session) notDraining() error {
	if t := s.live.State.Table; s.drains && t != nil && !continuity.IsDraining(t) {
		return errCapturesAgain
	}
	return nil
}
