// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/rules"
)

// An apply that puts nat before connections which conntrack does not know must not
// touch them. It commits the wanted rules with a guard that keeps nat from every
// packet in the middle of a connection, lists the connections that are open, and
// replaces the guard by them. Killed in between it leaves the guard, which shows as
// drift, and which the next apply replaces likewise.

const (
	// maxOpenConnections bounds the memory that the kernel keeps them in, twice each.
	// No pod can keep itself from being captured by opening more.
	maxOpenConnections = 200_000
	// elementsAtOnce keeps a batch within a send buffer that any user may have.
	elementsAtOnce = 2048
	// resendSlack is how much later than it says the kernel may send a SYN again: its
	// timers are coarse (kernel/time/timer.c: 64 ms for one of a second at 1000 Hz).
	resendSlack  = 100 * time.Millisecond
	resendAtMost = 2 * time.Minute
)

// openConnections are those that an apply found, and keeps as they are.
type openConnections struct {
	before      map[uint64]bool // cookies of the sockets that were there before the commit
	kept        int
	unlisted    error // why they could not be listed: they may be reset
	unforgotten error // why those that ended may still be remembered
}

// keepingOpen commits the wanted table, by a way that leaves alone what is open, and nothing
// that has ended.
func (w *work) keepingOpen(ctx context.Context, have, want *rules.Table, commit func(*rules.Table) error) error {
	begins := beginsTracking(have, want)
	if begins {
		if err := w.forget(ctx, answered); err != nil {
			return err
		}
	}
	first, err := w.guarded(ctx, have, want)
	if err != nil {
		return err
	}
	if err := commit(first); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if begins { // what was tracked for another program, or by the rules just before they were in force
		if err := w.forget(ctx, sockdiag.Socket.Open); err != nil {
			return err
		}
	}
	if first == want {
		return nil
	}
	err = w.replaceGuard(ctx, want)
	if err == nil || errors.Is(err, errGeneration) || errors.Is(err, errUnknown) {
		return err // in both cases the state is read again
	}
	return errors.Join(err, w.restoreTable(ctx))
}

// guarded is the wanted table with the guard, where connections may be open that
// conntrack does not know.
func (w *work) guarded(ctx context.Context, have, want *rules.Table) (*rules.Table, error) {
	if !keepsMore(have, want) {
		return want, nil
	}
	sockets, err := w.conn.tcpSockets(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		w.open.unlisted = err
		return want, nil
	case len(sockets) == 0:
		return want, nil
	}
	w.open.before = make(map[uint64]bool, len(sockets))
	for _, s := range sockets {
		w.open.before[s.Cookie] = true
	}
	return continuity.Guarded(want), nil
}

// keepsMore reports whether nat is to come before connections which the table that
// is there does not keep it from, or still guards.
func keepsMore(have, want *rules.Table) bool {
	keeps := continuity.KeepsOpen(have)
	return continuity.HasGuard(have) && len(continuity.KeepsOpen(want)) > 0 ||
		slices.ContainsFunc(continuity.KeepsOpen(want), func(f rules.Family) bool { return !slices.Contains(keeps, f) })
}

// commitAnyway commits at any generation, whatever other programs committed meanwhile.
func (w *work) commitAnyway(ctx context.Context, fill func(*batch)) error {
	start := time.Now()
	defer func() { w.commitTime += time.Since(start) }()
	b := &batch{}
	fill(b)
	if err := w.conn.commit(ctx, b, 0); err != nil {
		return w.blameGeneration(ctx, err)
	}
	w.generation = following(w.generation)
	return nil
}

// blameGeneration puts a failure down to a program that committed meanwhile, if
// another process did.
func (w *work) blameGeneration(ctx context.Context, err error) error {
	if g, gerr := w.conn.generation(ctx); gerr == nil && g != w.generation {
		return fmt.Errorf("%w: %w", errGeneration, err)
	}
	return err
}

// openElements are the elements for the connections that are open and not captured,
// as either end sends their packets.
func (w *work) openElements(ctx context.Context) (map[rules.Family][]rules.Element, error) {
	sockets, err := w.conn.tcpSockets(ctx)
	if err != nil {
		return nil, err
	}
	all := sockets
	if slices.ContainsFunc(sockets, func(s sockdiag.Socket) bool { return s.Open() && !w.open.before[s.Cookie] }) {
		// The proxy's end of a connection that was captured since may be listed before
		// it exists, and the other end after.
		later, err := w.conn.tcpSockets(ctx)
		if err != nil {
			return nil, err
		}
		all = append(slices.Clip(sockets), later...)
	}
	taken := takenHere(all)
	elements := map[rules.Family][]rules.Element{}
	seen := map[sockdiag.Ends]bool{}
	w.open.kept = 0
	for _, s := range sockets {
		if !s.Open() || taken.client(s) {
			continue
		}
		if w.open.kept == maxOpenConnections {
			w.open.unlisted = fmt.Errorf("more than %d TCP connections are open, and no more are kept", maxOpenConnections)
			break
		}
		if !seen[s.Turned()] { // else it is counted by its other end
			w.open.kept++
		}
		f := rules.AddressFamily(s.Local.Addr())
		for _, e := range []sockdiag.Ends{s.Ends, s.Turned()} {
			if !seen[e] {
				seen[e] = true
				elements[f] = append(elements[f], continuity.OpenElement(e.Local, e.Remote, remembered(s)))
			}
		}
	}
	return elements, nil
}

// remembered is how long a connection is kept. One that waits for the answer to its SYN
// is captured as soon as it sends the SYN again, and must not be taken for an open one
// any more.
func remembered(s sockdiag.Socket) time.Duration {
	if s.State == sockdiag.SynSent {
		return min(s.Resend, resendAtMost) + resendSlack
	}
	return continuity.OpenTimeout
}

// taken tells which connections nat redirects to a listener of the namespace.
type taken struct {
	mirrored  map[sockdiag.Ends]bool // by the ends of each socket
	listening map[uint16]bool
	served    map[sockdiag.Ends]bool // the clients of listeners, by their local ends alone
}

func takenHere(sockets []sockdiag.Socket) taken {
	c := taken{map[sockdiag.Ends]bool{}, map[uint16]bool{}, map[sockdiag.Ends]bool{}}
	for _, s := range sockets {
		if s.State == sockdiag.Listen {
			c.listening[s.Local.Port()] = true
		} else {
			c.mirrored[s.Ends] = true
		}
	}
	for _, s := range sockets {
		if s.State != sockdiag.Listen && c.listening[s.Local.Port()] && !c.mirrored[s.Turned()] {
			c.served[sockdiag.Ends{Local: s.Remote}] = true
		}
	}
	return c
}

// client reports whether the socket opened a connection that a listener here took,
// which is not where the socket wanted to go.
func (c taken) client(s sockdiag.Socket) bool {
	return !c.mirrored[s.Turned()] && !c.listening[s.Local.Port()] && c.served[sockdiag.Ends{Local: s.Local}]
}
