// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// largeSet is how many entries a set has, of which an interval is two, that is read
// back by key. A dump walks the set from its start for each part, and so costs by the
// square; a key costs 4 µs each. Seen on 6.18: of 100,000 entries 440 ms and 400, of
// 130,000 600 ms and 420, of 200,000 1.6 s and 0.75 s.
const largeSet = 120_000

// readWritten reads a large set by the keys that were written to it, and reports
// whether that is all of it: each entry is there as it was written, and the kernel
// counts as many. Otherwise the set is as it was, and must be dumped: the look-up of
// older kernels misses some that are there, and they do not count.
//
// It is for sets that a commit of this program made and no other changed since. In
// another the start of an interval may stand that has no end, which the kernel's count,
// a count of pairs, rounds off.
func (c *Conn) readWritten(ctx context.Context, of familyTable, s *rules.Set, count uint64, table *rules.Table) (bool, error) {
	if count == 0 || table == nil || s.Live || s.Dynamic || s.Expires || s.Counters {
		return false, nil
	}
	written := table.Set(s.Name)
	if written == nil || written.Declaration() != s.Declaration() || !isLarge(written, count) {
		return false, nil
	}
	for few := range slices.Chunk(written.Elements, keysAtOnce/2) { // an interval is two keys
		var entries []byte
		for _, e := range few {
			entries = appendElement(entries, written, e)
		}
		if ok, err := c.holdsAll(ctx, of, s.Name, entries); err != nil || !ok {
			return false, err
		}
	}
	s.Elements = slices.Clone(written.Elements)
	return true, nil
}

// isLarge reports whether a set is large and has as many entries as the kernel counts:
// of intervals it counts pairs. Ranges of concatenations are not dumped by the square.
func isLarge(written *rules.Set, count uint64) bool {
	entries := uint64(len(written.Elements))
	switch {
	case !written.Interval:
		return entries >= largeSet && count == entries
	case len(written.Key) != 1 || entries == 0:
		return false
	}
	entries *= 2
	if _, ends := written.Elements[len(written.Elements)-1].Key[0].After(); !ends {
		entries--
	}
	return entries >= largeSet && count == entries/2
}

var errNotWritten = errors.New("the set holds something else")

// holdsAll reports whether a set holds each of the entries as it was written.
func (c *Conn) holdsAll(ctx context.Context, of familyTable, set string, entries []byte) (bool, error) {
	left := entries
	err := c.nf.ExecuteMany(ctx, getElements(of, set, entries), func(m netlink.Message) error {
		got, err := onlyElement(m)
		if err != nil {
			return err
		}
		var entry []byte
		if entry, left, err = nl.First(left); err != nil {
			return err
		}
		written, err := liftElement(entry)
		if err == nil && (got.other != "" || got.counts || !written.same(got)) {
			err = errNotWritten
		}
		return err
	})
	for _, e := range []error{errNotWritten, unix.ENOENT, unix.ENOBUFS, nl.ErrTruncated} {
		if errors.Is(err, e) {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("set %s: look elements up: %w", set, nl.Permission(err))
	}
	return len(left) == 0, nil
}

// onlyElement is the element of a message that has one.
func onlyElement(m netlink.Message) (e element, err error) {
	if len(m.Data) < nfgenLen {
		return e, nl.ErrShort
	}
	var list []byte
	if err := nl.Walk(m.Data[nfgenLen:], func(typ uint16, data []byte) {
		if typ == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			list = data
		}
	}); err != nil {
		return e, err
	}
	entry, more, err := nl.First(list)
	if err != nil || len(more) > 0 {
		return e, errors.Join(errNotWritten, err)
	}
	return liftElement(entry)
}
