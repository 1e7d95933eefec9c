// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"errors"
	"net/netip"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/netns"
	"golang.org/x/sys/unix"
)

const closeRoom = 8 << 20 // bytes of connections that ended, not read yet

// sockets tell what the connections of one namespace moved: while they are open, and as they end.
type sockets struct {
	events, dumps *nl.Socket
	addresses     map[netip.Addr]bool // of its connections, nil for any
}

func openSockets(ctx context.Context, ns *netns.Namespace) (*sockets, error) {
	opened, err := nl.Open(ns.FD(), unix.NETLINK_SOCK_DIAG, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	s := &sockets{events: opened[0], dumps: opened[1]}
	if err := sockdiag.ListenEnded(ctx, s.events, closeRoom); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *sockets) close() error { return nl.Close(s.events, s.dumps) }

// open lists the connections that are open; whole is false where a change while it was read may
// have hidden some.
func (s *sockets) open(ctx context.Context) (out []sockdiag.Socket, whole bool, err error) {
	whole = true
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		found, err := sockdiag.Connections(ctx, s.dumps, family)
		if errors.Is(err, nl.ErrChanged) {
			whole = false
		} else if err != nil {
			return nil, false, err
		}
		out = append(out, found...)
	}
	return out, whole, nil
}

// hasAny reports whether a connection of one of the addresses may be the namespace's: to list
// its connections takes a walk through those of the machine.
func (s *sockets) hasAny(callers map[netip.Addr]bool) bool {
	if s.addresses == nil {
		return len(callers) > 0
	}
	for a := range s.addresses {
		if callers[a] {
			return true
		}
	}
	return false
}
