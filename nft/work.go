// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// work is one try at turning the former state into the wanted one. Each commit
// is guarded with the generation that the one before made.
type work struct {
	*Session
	want            rules.State
	former          *Live
	contrasts       rules.Changes // between the tables of the two
	generation      uint32
	start           time.Time
	tag             Tag  // what it writes
	attempts        int  // that were made before
	uncontended     bool // it found nothing of weir's, and no other program at work
	committed       bool // the wanted rules are in force
	held            bool // the lock
	next            bool // the helper table stands
	othersCommitted bool // another program committed meanwhile
	open            openConnections

	commitTime, verifyTime time.Duration
}

func (w *work) commit(ctx context.Context, fill func(*batch)) error {
	err := w.commitNext(ctx, fill)
	for errors.Is(err, errGeneration) {
		if err := w.goOn(ctx); err != nil {
			return err
		}
		err = w.commitNext(ctx, fill)
	}
	return w.blame(err)
}

// commitNext commits if no other program did.
func (w *work) commitNext(ctx context.Context, fill func(*batch)) error {
	start := time.Now()
	defer func() { w.commitTime += time.Since(start) }()
	b := &batch{}
	fill(b)
	if err := w.conn.commit(ctx, b, w.generation); err != nil {
		return err
	}
	w.generation = following(w.generation)
	return nil
}

// goOn takes another program's commit in, if it changed nothing of weir's. Who holds the
// lock need not start over even where that is not known: no other weir is at
// work, and what a stranger did to our tables shows when they are read back.
func (w *work) goOn(ctx context.Context) error {
	if time.Since(w.start) > patience {
		return errGeneration
	}
	now, err := w.conn.generation(ctx)
	if err != nil {
		return err
	}
	if !w.conn.quiet(ctx, w.generation, now) {
		if !w.held {
			return errGeneration
		}
		w.othersCommitted = true
		w.conn.beginWatch(ctx, w.Table)
	}
	w.generation = now
	return nil
}

// blame puts a failure down to the program that committed meanwhile.
func (w *work) blame(err error) error {
	if err != nil && w.othersCommitted {
		return fmt.Errorf("%w: %w", errGeneration, err)
	}
	return err
}

// following is the generation after g; the kernel leaves 0 out.
func following(g uint32) uint32 { return max(g+1, 1) }

func (w *work) do(ctx context.Context, change routingChange) (outcome Outcome, err error) {
	defer func() {
		if w.next || w.held {
			w.live = nil
			if w.held {
				w.generation = 0 // other programs have no business with the helper tables
			}
			err = errors.Join(err, w.release(context.WithoutCancel(ctx)))
		}
	}()
	elements, elementsOnly := w.contrasts.Elements, w.contrasts.ElementsOnly
	if !w.uncontended && (!change.empty() || w.want.Table != nil && w.former.State.Table != nil && !elementsOnly) {
		if change, err = w.lock(ctx, change); err != nil {
			return "", err
		}
	}
	elementsAlone := elementsOnly && change.empty()
	missing := change.add
	change.add = rules.State{}
	if err := w.conn.eachOdd(ctx, change.odd, false); err != nil {
		return "", errors.Join(err, w.undo(context.WithoutCancel(ctx), change))
	}
	if change.add, err = w.conn.addRouting(ctx, missing); err != nil {
		return "", errors.Join(err, w.undo(context.WithoutCancel(ctx), change))
	}
	if err := w.blocked(ctx, missing, change.add); err != nil {
		return "", errors.Join(err, w.undo(context.WithoutCancel(ctx), change))
	}
	w.tag = w.nextTag(change)
	outcome, err = w.commitTables(ctx, elements, elementsOnly, change)
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return outcome, errors.Join(err, w.undo(ctx, change))
	}
	if err := w.removeStale(ctx, change.remove); err != nil {
		return outcome, err
	}
	if err := w.readBack(ctx, elements, elementsAlone, change); err != nil {
		return outcome, err
	}
	if err := w.release(ctx); err != nil {
		return outcome, nil // it is tried again above
	}
	if proven := w.live.generation; w.generation == proven || w.generation == following(proven) {
		w.live.generation = w.generation
	} else {
		w.live = nil
	}
	return outcome, nil
}

// blocked is why something of the missing routing was not added and is not there:
// the kernel has no room for it beside what another program put in its place.
func (w *work) blocked(ctx context.Context, missing, added rules.State) error {
	if len(missing.Routing()) == len(added.Routing()) {
		return nil
	}
	now, err := w.conn.readRouting(ctx, w.want, w.former.otherTags)
	if err != nil {
		return err
	}
	left := now.change(w.want, w.former.Tag).add.Routing()
	if len(left) == 0 {
		return nil // another weir added it meanwhile
	}
	err = &RejectedError{Where: strings.Join(left, ", "), Err: unix.EEXIST, Hint: "another program's stands in its place"}
	if !w.held && w.attempts < maxAddRetries { // another weir may have taken it out again
		err = fmt.Errorf("%w: %w", errGeneration, err)
	}
	return err
}

// removeStale removes the routing that the new rules do not need. Without the lock
// another apply may have committed meanwhile, and need it.
func (w *work) removeStale(ctx context.Context, stale rules.State) error {
	if !w.held && !w.uncontended && len(stale.Routing()) > 0 {
		if now, err := w.conn.generation(ctx); err != nil {
			return err
		} else if now != w.generation && !w.conn.quiet(ctx, w.generation, now) {
			return errGeneration
		}
	}
	return w.conn.removeRouting(ctx, stale)
}

// undo takes out what was added for rules that were refused, and puts the oddities
// back. Without the lock another may have found the former there, and count on it:
// then it stays, for the next attempt.
func (w *work) undo(ctx context.Context, change routingChange) error {
	if !w.held {
		if g, err := w.conn.generation(ctx); err != nil || g != w.generation && !w.conn.quiet(ctx, w.generation, g) {
			return err
		}
	}
	return errors.Join(w.conn.removeRouting(ctx, change.add), w.conn.eachOdd(ctx, change.odd, true))
}

// nextTag says what this apply writes. An address that was there before is not
// weir's, unless an earlier apply added it.
func (w *work) nextTag(change routingChange) Tag {
	added := change.add.Addresses
	for _, a := range w.former.routing.addresses {
		if a.addedBy(w.former.Tag) && slices.Contains(w.want.Addresses, a.Prefix) && !slices.Contains(added, a.Prefix) {
			added = append(added, a.Prefix)
		}
	}
	return newTag(w.former.routing.withoutForeign(w.want), w.Version, w.want.Addresses, added)
}
