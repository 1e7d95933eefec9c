// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"

	"github.com/weir-mesh/weir/capture/internal/policy"
	"github.com/weir-mesh/weir/netns"
)

// RefuseHost is an error that matches ErrHostNetwork in the machine's initial network
// namespace, with what would happen to everything on it; for work that is allowed there
// only if the whole machine is meant. It is an error too that the namespace cannot be
// told.
func RefuseHost(ns *netns.Namespace, effect string) error {
	return policy.RefuseHost(isHost(ns), effect)
}

func isHost(ns *netns.Namespace) func() (bool, error) {
	return func() (bool, error) {
		host, err := ns.IsHost()
		if err != nil {
			err = netns.WithAdvice(err)
		}
		return host, err
	}
}

// loopbackUp asks the kernel, unless the environment was read there.
func (c *Capture) loopbackUp(ctx context.Context, w wanted) func() (bool, error) {
	return func() (bool, error) {
		if w.seen != nil {
			return w.seen.Loopback.Up, nil
		}
		lo, err := c.ns.Loopback(ctx)
		return lo.Up, err
	}
}
