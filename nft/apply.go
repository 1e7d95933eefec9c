// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// Outcome is what an apply or remove did.
type Outcome string

// Outcomes.
const (
	Created   Outcome = "created"
	Unchanged Outcome = "unchanged"
	Updated   Outcome = "updated"  // elements, routing or left-overs alone
	Replaced  Outcome = "replaced" // the table's rules
	Removed   Outcome = "removed"
	Absent    Outcome = "absent" // nothing was there to remove
)

// Result tells what an apply found and did.
type Result struct {
	Outcome     Outcome
	Differences []rules.Difference // from the wanted state, before
	Previous    *Tag               // of the state that was there
	Foreign     []ForeignChain
	LockHeld    *Holder       // of the lock's table, where it went on without the lock; else nil
	Read        time.Duration // reading what was there
	Commit      time.Duration // changing it
	Verify      time.Duration // reading back and comparing
	Kept        int           // connections that were open before, and go on past the proxy
	Reset       int           // captured connections that a drain left for the remove to end
	Uncounted   error         // why there may have been more
	Unlisted    error         // why it is not known which are open: they may be reset; nil where it is
	Unforgotten error         // why connection tracking may take later connections for ones that have ended, which passed by; nil where it does not

	// Generation is the ruleset's at which the state was last seen to hold: notifications of it and of those
	// before tell nothing new. 0 where it did not come to that.
	Generation uint32
	// Ports are the port ids of the sockets that worked: the kernel's notifications of what they changed name
	// them as sender (nlmsg_pid of struct nlmsghdr).
	Ports []uint32
}

const (
	maxRetryPause = 16 * time.Millisecond
	maxAddRetries = 32 // attempts without a lock to add a route or an address whose place another may hold
)

// Session is a Conn's work on one table. It remembers what it read: while
// no other program commits, the next apply starts from there. Version goes into the
// tag.
type Session struct {
	Table   string
	Version string
	conn    *Conn
	live    *Live
	lockOK  bool // false: it goes on without the lock
	drains  bool // it removes what drains, and nothing else
}

// Session starts work on a table.
func (c *Conn) Session(table, version string) *Session {
	return &Session{Table: table, Version: version, conn: c, lockOK: true}
}

// Apply makes the namespace hold the wanted state, whose table must be the
// session's, and proves it by reading back. No packet meets a moment without
// rules. On an error the former state is in force again, or what another program
// wrote meanwhile. A context that ends once the wanted rules are in force is
// too late. A state that holds nothing is ErrEmptyState: to take away what is there
// is [Session.Remove].
func (s *Session) Apply(ctx context.Context, want rules.State) (Result, error) {
	want = want.Normal()
	if nothing(want) {
		return Result{}, ErrEmptyState
	}
	if err := want.CheckNormal(); err != nil {
		return Result{}, err
	}
	if want.Table != nil && want.Table.Name != s.Table {
		return Result{}, fmt.Errorf("the state is of table %s, the session of %s", want.Table.Name, s.Table)
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.settle(ctx, want)
}

// Remove removes the session's table and the routing that weir added for it, and
// nothing else.
func (s *Session) Remove(ctx context.Context) (Result, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.settle(ctx, rules.State{})
}

// Verify reads what is live and lists in what it is not as wanted.
func (s *Session) Verify(ctx context.Context, want rules.State) (*Live, []rules.Difference, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	live, err := s.conn.readSettled(ctx, s.Table, want, everything(), func(l *Live) bool { return len(l.Differences(want)) > 0 })
	if err != nil {
		return nil, nil, err
	}
	s.live = live
	return live, live.Differences(want), nil
}

// settle applies until the state holds at a generation that this program made
// or found, or gives up. Where another program holds the lock for long it goes on without:
// every commit is guarded all the same.
func (s *Session) settle(ctx context.Context, want rules.State) (Result, error) {
	var result Result
	defer s.conn.endWatch()
	defer func(ok bool) { s.lockOK = ok }(s.lockOK)
	start := time.Now()
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, want, attempt, &result)
		result.Ports = s.conn.ports()
		if err == nil {
			s.conn.added = nil
			if s.live != nil {
				result.Generation = s.live.generation
			}
		}
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return result, s.conn.interrupted(start, err)
		case !errors.Is(err, errGeneration) && !errors.Is(err, errUnknown):
			return result, err
		}
		if errors.Is(err, errLocked) && time.Since(start) > lockPatience {
			holder := s.conn.holder(ctx, s.live.lockPort())
			s.lockOK, result.LockHeld = false, &holder
		}
		if time.Since(start) > patience {
			return result, s.conn.kept(start, err)
		}
		s.live = nil
		s.conn.beginWatch(ctx, s.Table)
		if err := pause(ctx, rand.N(min(time.Millisecond<<min(attempt, 10), maxRetryPause))); err != nil {
			return result, s.conn.interrupted(start, err)
		}
	}
}

// attempt reads, changes and reads back once, after so many before. There is no
// error when the state was found to hold.
func (s *Session) attempt(ctx context.Context, want rules.State, before int, result *Result) error {
	start := time.Now()
	if err := s.refresh(ctx, want); err != nil {
		return err
	}
	result.Read += time.Since(start)
	live := s.live
	if err := errors.Join(live.refusal(want), s.notDraining()); err != nil {
		return err
	}
	contrasts := live.contrast(want)
	if result.Outcome == "" {
		result.Differences, result.Previous, result.Foreign = contrasts.Differences, live.Tag, live.Foreign
		result.Outcome = idle(want)
	}
	change := live.routing.change(want, live.Tag)
	unrecorded := live.Tag != nil && len(without(s.conn.added, live.Tag.Added)) > 0
	if len(contrasts.Differences) == 0 && change.empty() && !unrecorded {
		return nil
	}
	switch {
	case live.busy() && s.lockOK:
		return errLocked
	case live.lock != nil && !live.lock.owned:
		result.LockHeld = &Holder{None: true}
	}
	w := &work{Session: s, want: want, former: live, generation: live.generation, start: start, next: live.Leftover, attempts: before, uncontended: before == 0 && !live.any() && live.lock == nil,
		contrasts: live.changeTo(want, contrasts)}
	outcome, err := w.do(ctx, change)
	result.Commit += w.commitTime
	result.Verify += w.verifyTime
	result.Kept, result.Unlisted, result.Unforgotten = w.open.kept, w.open.unlisted, w.open.unforgotten
	if (w.committed || errors.Is(err, errUnknown)) && result.Outcome == idle(want) {
		result.Outcome = outcome // a further attempt does not make it less
	}
	return err
}

// idle is the outcome where nothing is to do.
func idle(want rules.State) Outcome {
	if nothing(want) {
		return Absent
	}
	return Unchanged
}

func nothing(s rules.State) bool { return s.Table == nil && s.Routing() == nil }

// refresh makes s.live current: as it is while the generation stands.
func (s *Session) refresh(ctx context.Context, want rules.State) error {
	if want.Table == nil {
		return s.refreshWith(ctx, want, outline())
	}
	return s.refreshWith(ctx, want, everything())
}

// refreshWith makes s.live current, and that much known of the table.
func (s *Session) refreshWith(ctx context.Context, want rules.State, with scope) error {
	if s.live != nil && s.live.covers(with) {
		if g, err := s.conn.generation(ctx); err == nil && g == s.live.generation {
			r, err := s.conn.readRouting(ctx, want, s.live.otherTags)
			s.live.routing = r
			return err
		}
	}
	live, err := s.conn.readUnlocked(ctx, s.Table, want, with)
	s.live = live
	return err
}
