// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"cmp"
	"context"
	"time"

	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
)

// commitTables does what nftables needs, in as few commits as leave no gap.
func (w *work) commitTables(ctx context.Context, elements []rules.SetChange, elementsOnly bool, change routingChange) (outcome Outcome, err error) {
	have, want := w.former.State.Table, w.want.Table
	switch {
	case want == nil && have == nil: // routing alone
	case want == nil:
		err = w.commit(ctx, func(b *batch) { lower(b, have).deleteTable() })
	case have == nil:
		outcome = Created
		err = w.keepingOpen(ctx, have, want, func(want *rules.Table) error {
			return w.commit(ctx, func(b *batch) { addWhole(b, want, w.tag) })
		})
	case elementsOnly:
		err = w.commit(ctx, func(b *batch) { changeElements(b, want, elements, w.former.tagged, w.tag) })
	default:
		outcome = Replaced
		err = w.keepingOpen(ctx, have, want, func(want *rules.Table) error { return w.makeBeforeBreak(ctx, have, want) })
	}
	w.committed = err == nil
	if nothing(w.want) {
		outcome = Removed
	}
	return cmp.Or(outcome, Updated), err
}

// makeBeforeBreak brings the wanted rules up in a second table before it takes
// the first one's down: packets in flight can meet the middle of a batch that
// re-creates a set or a map, and there meet the second table instead. No rules go
// before each packet that has not met those in their place has left.
func (w *work) makeBeforeBreak(ctx context.Context, have, want *rules.Table) error {
	want = withLiveElements(want, have)
	next := *want
	next.Name = reserved.Next(w.Table)
	err := w.commit(ctx, func(b *batch) {
		if w.next {
			lower(b, &next).deleteTable()
		}
		addWhole(b, &next, w.tag)
	})
	if err != nil {
		return err
	}
	w.next = true
	if err := w.compareNext(ctx, &next); err != nil {
		return err
	}
	if err := awaitInFlight(ctx); err != nil {
		return err
	}
	if err := w.commit(ctx, func(b *batch) { replaceTable(b, have, want, w.former.tagged, w.tag) }); err != nil {
		return err
	}
	return awaitInFlight(context.WithoutCancel(ctx))
}

// compareNext reads the helper table back, so that what a kernel takes
// differently from what was meant shows before the former rules go.
func (w *work) compareNext(ctx context.Context, next *rules.Table) error {
	start := time.Now()
	defer func() { w.verifyTime += time.Since(start) }()
	for {
		with := everythingOf(next)
		if w.othersCommitted {
			with = everything()
		}
		got, err := w.conn.tableAlone(ctx, next.Name, with)
		g, gerr := w.conn.generation(ctx)
		switch {
		case gerr != nil:
			return gerr
		case g != w.generation:
			if err := w.goOn(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return w.blame(err)
		}
		if d := (rules.State{Table: next}).Compare(rules.State{Table: got}); len(d) > 0 {
			return w.blame(&DriftError{next.Name, d})
		}
		return nil
	}
}

// tableAlone reads one table without its tag.
func (c *Conn) tableAlone(ctx context.Context, name string, with scope) (*rules.Table, error) {
	chains, err := c.chains(ctx)
	if err != nil {
		return nil, err
	}
	t, _, err := c.table(ctx, inet(name), 0, chains[inet(name)], nil, with)
	return t, err
}
