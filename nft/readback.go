// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// maxReadBack is how many changed elements are read back one by one; after
// more the sets are dumped.
const maxReadBack = 64

func countElements(changes []rules.SetChange) int {
	n := 0
	for _, c := range changes {
		n += len(c.Add) + len(c.Delete)
	}
	return n
}

// elementsHold reads the changed elements back, at the generation of our own
// commit, or at one since which nothing of weir's was changed: everything else is as it was read before. That they do not hold is no
// proof: the look-up of older kernels misses an element where one interval ends
// and the next starts (seen on 5.10 and 6.1, not on 6.18).
func (w *work) elementsHold(ctx context.Context, changes []rules.SetChange) (bool, error) {
	for _, c := range changes {
		for _, e := range c.Add {
			if ok, err := w.conn.holds(ctx, w.Table, c.Set, e); err != nil || !ok {
				return false, err
			}
		}
		for _, e := range c.Delete {
			if slices.ContainsFunc(c.Add, func(a rules.Element) bool { return startAlike(a, e) }) {
				continue // it is replaced: its start is there
			}
			if still, err := w.conn.holds(ctx, w.Table, c.Set, e); err != nil || still {
				return false, err
			}
		}
	}
	g, err := w.conn.generation(ctx)
	if err == nil && g != w.generation && !w.conn.quiet(ctx, w.generation, g) {
		err = errGeneration
	}
	w.generation = g
	return true, err
}

func startAlike(a, b rules.Element) bool {
	return slices.EqualFunc(a.Key, b.Key, func(x, y rules.Range) bool { return x.Lo == y.Lo })
}

// holds asks for one element, whose every part must come back as it was sent.
func (c *Conn) holds(ctx context.Context, table string, s *rules.Set, e rules.Element) (bool, error) {
	entries, err := list(appendElement(nil, s, e))
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		ok, err := c.holdsEntry(ctx, table, s, entry)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (c *Conn) holdsEntry(ctx context.Context, table string, s *rules.Set, entry []byte) (bool, error) {
	one := attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, data: entry}.appendTo(nil)
	msgs, err := execute(ctx, c.nf, netlink.Message{
		Header: netlink.Header{Type: nfType(unix.NFT_MSG_GETSETELEM), Flags: netlink.Request},
		Data: request(table, func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, one)
		}),
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("set %s: look an element up: %w", s.Name, err)
	}
	sent, err := liftElement(entry)
	if err != nil {
		return false, err
	}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return false, err
		}
		got, err := liftElements(a.Take(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(got, func(g element) bool { return sent.same(g) }) {
			return true, nil
		}
	}
	return false, nil
}

func (e element) same(g element) bool {
	return slices.Equal(e.key, g.key) && slices.Equal(e.keyEnd, g.keyEnd) && e.end == g.end &&
		e.Comment == g.Comment && e.Verdict == g.Verdict && e.Timeout == g.Timeout
}

// formerWithElements is what is live after a change of elements that was seen to
// hold.
func (w *work) formerWithElements() *Live {
	live := *w.former
	live.State.Table = withLiveElements(w.want.Table, live.State.Table)
	live.listed = live.State.Table
	live.Tag, live.tagged = &w.tag, true
	live.Leftover, live.notOurs, live.generation = false, nil, w.generation
	return &live
}

// readBack proves that the wanted state is in force at the generation of the
// last commit. Where it is not, and no other program wrote, the former state is put
// back.
func (w *work) readBack(ctx context.Context, elements []rules.SetChange, elementsAlone bool, change routingChange) error {
	start := time.Now()
	defer func() { w.verifyTime += time.Since(start) }()
	if elementsAlone && countElements(elements) <= maxReadBack {
		hold, err := w.elementsHold(ctx, elements)
		if err != nil {
			return err
		}
		if hold {
			w.live = w.formerWithElements()
			return nil
		}
	}
	live, err := w.readOwn(ctx)
	if err != nil {
		return err
	}
	live.Leftover, live.lock = false, nil // both go with the release
	if d := live.contrast(w.want).Differences; len(d) > 0 {
		if w.othersCommitted || w.otherRouting(live, d) {
			// Somebody else is at it: never restore over them.
			return fmt.Errorf("%w: %w", errGeneration, &DriftError{w.Table, d})
		}
		return errors.Join(&DriftError{w.Table, d}, w.restore(ctx, change))
	}
	w.live = live
	return nil
}

// readOwn reads what is live at the generation of the last commit, or at one since which
// nothing of weir's is known to have changed.
func (w *work) readOwn(ctx context.Context) (*Live, error) {
	for {
		with := everything()
		if w.former.State.Table == nil && !w.othersCommitted {
			with = everythingOf(w.want.Table)
		}
		live, err := w.conn.read(ctx, w.Table, w.want, with)
		switch {
		case errors.Is(err, errGeneration):
			if err := w.goOn(ctx); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		case live.generation == w.generation:
			return live, nil
		}
		if err := w.goOn(ctx); err != nil {
			return nil, err
		}
		if w.othersCommitted && with.written != nil {
			continue // what was read may not be what was written
		}
		w.generation = live.generation
		return live, nil
	}
}

// otherRouting reports whether another weir may have changed the routing, and
// nothing else differs: without the lock at any moment, beside who holds it by
// adding, before it finds that it was not alone.
func (w *work) otherRouting(live *Live, differences []rules.Difference) bool {
	if len((rules.State{Table: w.want.Table}).ChangesFrom(rules.State{Table: live.State.Table}).Differences) > 0 {
		return false
	}
	missing := slices.ContainsFunc(differences, func(d rules.Difference) bool { return d.Want != "" })
	return !w.held || !missing
}

// restore puts the former state back. A table that was to be removed is still there
// if it differs from none; its elements were not read.
func (w *work) restore(ctx context.Context, change routingChange) error {
	_, err := w.conn.addRouting(ctx, change.remove)
	if err == nil && w.former.covers(everything()) {
		err = w.restoreTable(ctx)
	}
	if err == nil {
		err = errors.Join(w.conn.removeRouting(ctx, change.add), w.conn.eachOdd(ctx, change.odd, true))
	}
	if err != nil {
		return fmt.Errorf("put the former state back: %w", err)
	}
	return nil
}

func (w *work) restoreTable(ctx context.Context) error {
	return w.commitNext(ctx, func(b *batch) {
		removeTable(b, w.Table)
		if former := w.former.State.Table; former != nil {
			var tag Tag
			if w.former.Tag != nil {
				tag = *w.former.Tag
			}
			addWhole(b, former, tag)
		}
	})
}
