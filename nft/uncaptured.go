// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// OpenConnections counts the TCP connections of the connection's namespace to other hosts
// whose sockets do not have the mark: what judges each packet by itself takes them to a
// proxy that knows nothing of them, which resets them.
func (c *Conn) OpenConnections(ctx context.Context, mark, mask rules.Mark) (count int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sockets, err := c.tcpSockets(ctx)
	for _, s := range sockets {
		if s.Open() && betweenHosts(s.Local, s.Remote) && rules.Mark(s.Mark)&mask != mark {
			count++
		}
	}
	return count, err
}

// betweenHosts reports whether what is sent between the two leaves the namespace, but for
// another of its own addresses.
func betweenHosts(local, remote netip.AddrPort) bool {
	return !remote.Addr().IsLoopback() && remote.Addr() != local.Addr()
}
