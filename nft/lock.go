// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// release takes the helper tables away.
func (w *work) release(ctx context.Context) error {
	if !w.next && !w.held {
		return nil
	}
	err := w.commit(ctx, func(b *batch) {
		if w.next {
			removeTable(b, reserved.Next(w.Table))
		}
		if w.held {
			lower(b, &rules.Table{Name: reserved.Lock}).deleteTable()
		}
	})
	if err != nil {
		return fmt.Errorf("take the helper tables away: %w", err)
	}
	w.next, w.held = false, false
	return nil
}

// lock creates the lock table, which belongs to this program's socket and goes
// with it, and looks at the routing again: only who holds the lock changes
// that, except for one that finds nothing of weir's. That one does without, for the end of
// a table is a wait of milliseconds for its socket's owner, and its only commit
// fails if another process took the lock, or was faster. Kernels before Linux 5.12 have no such tables; there the routing is
// compared once more at the end, as everywhere.
func (w *work) lock(ctx context.Context, change routingChange) (routingChange, error) {
	if !w.lockOK || w.former.lock != nil && !w.former.lock.owned {
		return change, nil // what has its name and no owner is not a lock
	}
	err := w.commit(ctx, func(b *batch) {
		l := lower(b, &rules.Table{Name: reserved.Lock})
		l.add(newTable(l, tableOwner, netlink.Create|netlink.Excl))
	})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		w.lockOK = false
		return change, nil
	case errors.Is(err, unix.EEXIST), errors.Is(err, errOwned):
		return change, errLocked
	case err != nil:
		return change, err
	}
	w.held = true
	w.former.routing, err = w.conn.readRouting(ctx, w.want, w.former.otherTags)
	return w.former.routing.change(w.want, w.former.Tag), err
}

var errLocked = fmt.Errorf("another apply holds the lock, table inet %s: %w", reserved.Lock, errGeneration)

// lockPort is the port of the socket that holds the lock, as far as it was read.
func (l *Live) lockPort() uint32 {
	if l == nil || l.lock == nil {
		return 0
	}
	return l.lock.port
}

func newTable(l *lowering, flags uint32, how netlink.HeaderFlags) change {
	return change{typ: unix.NFT_MSG_NEWTABLE, flags: how, where: "table inet " + l.table, kind: "table",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.NFTA_TABLE_FLAGS, flags) })}
}

// lockState is what is known of the table by the lock's name.
type lockState struct {
	owned bool   // else it is not a lock: it would stay when its maker ends
	port  uint32 // of the socket that owns it
}
