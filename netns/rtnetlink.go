// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/nft"
	"golang.org/x/sys/unix"
)

const (
	changedLimit = 30 * time.Second // for how long what others change is read again
	changedPause = 3 * time.Millisecond
)

// withRoute calls read with the namespace's rtnetlink socket, which is opened once,
// and again while others change what is read.
func (n *Namespace) withRoute(ctx context.Context, read func(*nl.Socket) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.route == nil {
		s, err := n.openNetlink(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		// Without it the kernel takes a filtered dump for one of everything.
		if err := s.SetOption(unix.NETLINK_GET_STRICT_CHK); err != nil {
			return errors.Join(fmt.Errorf("netlink: strict checking (Linux 4.20): %w", err), nl.Close(s))
		}
		n.route = s
	}
	return readAgain(ctx, func() error { return read(n.route) })
}

// openNetlink opens a netlink socket in the namespace.
func (n *Namespace) openNetlink(protocol int) (*nl.Socket, error) {
	sockets, err := nl.Open(n.FD(), protocol)
	if errors.Is(err, ErrNotEntered) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("netlink: open a socket: %w", nl.Permission(err))
	}
	return sockets[0], nil
}

// readAgain reads until no program changes meanwhile what is read. The error is a
// [*nft.ChangedError] where one did so for too long.
func readAgain(ctx context.Context, read func() error) error {
	for start := time.Now(); ; {
		err := read()
		if !errors.Is(err, nl.ErrChanged) {
			return err
		}
		if since := time.Since(start); since > changedLimit {
			return &nft.ChangedError{After: since, Err: err}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(changedPause)):
		}
	}
}
