// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// Watcher hears the namespaces that have an id in the one it was opened in.
type Watcher struct {
	nft, route *socket
	ask        *nl.Socket
}

// routeGroups are rtnetlink's groups of what decides where packets go.
var routeGroups = []int{unix.RTNLGRP_NSID, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE}

// Open begins to listen in the calling thread's network namespace. It takes CAP_NET_BROADCAST there, and
// CAP_NET_ADMIN for a full buffer.
func Open() (w *Watcher, err error) {
	w = &Watcher{}
	if w.nft, err = listen(unix.NETLINK_NETFILTER, nftPort, unix.NFNLGRP_NFTABLES); err != nil {
		return nil, err
	}
	if w.route, err = listen(unix.NETLINK_ROUTE, routePort, routeGroups...); err != nil {
		w.nft.close()
		return nil, err
	}
	sockets, err := nl.Open(0, unix.NETLINK_ROUTE)
	if err != nil {
		w.nft.close()
		w.route.close()
		return nil, err
	}
	w.ask = sockets[0]
	return w, nil
}

// Close ends Run.
func (w *Watcher) Close() {
	w.nft.close()
	w.route.close()
	_ = nl.Close(w.ask)
}

// Run tells a listener what is heard, until the context ends. The error is that of a socket.
func (w *Watcher) Run(ctx context.Context, to Listener) error {
	stop := context.AfterFunc(ctx, func() { w.nft.close(); w.route.close() })
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- (&reader{w.nft, to}).run((&commits{to: to, open: map[ID]*Change{}}).take) }()
	go func() { ended <- (&reader{w.route, to}).run((&routing{to: to}).take) }()
	err := <-ended
	w.nft.close()
	w.route.close()
	err = errors.Join(err, <-ended)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// reader reads one socket.
type reader struct {
	*socket
	to Listener
}

func (r *reader) run(take func(ID, netlink.Message)) error {
	buffer := make([]byte, 64<<10) // the kernel fills a page or two
	for {
		part, id, err := r.receive(buffer)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			r.to.Overrun()
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("listen to netlink: %w", err)
		}
		for len(part) > 0 {
			var m netlink.Message
			if m, part, err = nl.Next(part); err != nil {
				break
			}
			take(id, m)
		}
	}
}

func with(list []Object, o Object) []Object {
	if slices.Contains(list, o) {
		return list
	}
	return append(list, o)
}
