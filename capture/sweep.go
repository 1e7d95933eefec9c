// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"errors"

	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
)

// SweepTraces removes from a namespace the tables of traces that were killed, which
// kernels before Linux 5.12 leave there. A [Capture] does so when it first reaches its
// namespace; this is for programs that work there without one. A namespace that cannot
// be reached is no notice: the caller's own work will say so.
func SweepTraces(ctx context.Context, ns *netns.Namespace) Notices {
	conn, err := ns.Nft()
	if err != nil {
		return Notices{}
	}
	defer conn.Close()
	return sweep(ctx, conn, ns)
}

func sweep(ctx context.Context, conn *nft.Conn, ns *netns.Namespace) Notices {
	swept, err := conn.SweepTraces(ctx, ns.FD())
	if errors.Is(err, nft.ErrNotPermitted) { // which the work itself will say
		err = nil
	}
	return Notices{Swept: swept, Unswept: err}
}
