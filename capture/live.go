// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"

	"github.com/weir-mesh/weir/nft"
)

// Live reads what the namespace holds under the table's name, whatever is wanted of it:
// the table as it is, with its counters, the routing and addresses that weir added, and
// the chains of other programs. The notices tell of another apply that was at work.
func (c *Capture) Live(ctx context.Context) (*nft.Live, Notices, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var notices Notices
	if err := c.connect(ctx, &notices); err != nil {
		return nil, notices, err
	}
	live, err := c.conn.Read(ctx, c.table)
	if err != nil {
		return nil, notices, c.failed("read", err)
	}
	notices.Applying = live.Applying
	return live, notices, nil
}
