// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"

	"github.com/weir-mesh/weir/internal/sockdiag"
)

// tcpSockets lists the TCP sockets of both families in every state.
func (c *Conn) tcpSockets(ctx context.Context) (out []sockdiag.Socket, err error) {
	if c.diag == nil {
		return nil, c.noDiag
	}
	if c.noTCP() {
		return nil, nil
	}
	err = again(ctx, func() error {
		out, err = sockdiag.TCP(ctx, c.diag)
		return err
	})
	return out, err
}

// noTCP reports whether the namespace certainly has no TCP socket but those that have closed.
func (c *Conn) noTCP() (none bool) {
	if err := c.nf.Inside(func() { none = sockdiag.NoTCPHere() }); err != nil {
		return false
	}
	return none
}
