// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"fmt"

	"github.com/weir-mesh/weir/rules"
)

// Plan is what an apply would make, and in what the namespace is not so now.
type Plan struct {
	Notices
	Table       string
	State       rules.State        // what is wanted; without a table where all is to be removed
	Differences []rules.Difference // from what is live; empty where nothing differs or nothing was compared
	Refusal     error              // why an apply would change nothing: a [*nft.NotOursError] for each table in the way
	Uncompared  error              // why it was not compared with what is live, nil where it was
}

// Script is the plan as a script that nft -f loads, twice alike. Policy rules, routes
// and addresses, which nft does not know, are comments in it.
func (p Plan) Script() string {
	if p.State.Table == nil {
		return fmt.Sprintf("table inet %s\ndelete table inet %[1]s\n", p.Table) + p.State.String()
	}
	return p.State.String()
}

// Plan tells what Apply would make, and changes nothing. It takes no privilege:
// without CAP_NET_ADMIN it is not compared with what is live. The error is that the
// environment cannot be read, or what is wrong with the configuration in it: a
// [*modes.ConfigError] for each problem.
func (c *Capture) Plan(ctx context.Context) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := Plan{Table: c.table}
	if c.written {
		return p, c.failed("plan", ErrEmptyState)
	}
	p.Uncompared = c.connect(ctx, &p.Notices)
	w, err := c.wanted(ctx)
	p.Notes, p.State = w.notes, w.state
	if err != nil || p.Uncompared != nil {
		return p, err
	}
	live, found, err := c.session.Verify(ctx, p.State)
	if err != nil {
		p.Uncompared = err
		return p, nil
	}
	p.Applying, p.Differences, p.Refusal = live.Applying, found, live.Refusal(p.State)
	return p, nil
}
