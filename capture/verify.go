// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"slices"
	"time"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Verdict is in what a namespace is not as it should be.
type Verdict struct {
	Notices
	Table       string
	Absent      bool               // of [OfTable]: there is no such table
	Differences []rules.Difference // none: it is as it should
	Later       []rules.Route      // of interfaces that came since the apply, which the next one adds: no drift
	Conflicts   []Conflict         // what stands in the way of captured traffic, where Options.Conflicts asks for it: no drift
	Unseen      []error            // why something that may be in the way was not looked at
	Unjudged    error              // why nothing was
	Generation  uint32             // the ruleset that was read; see nft.Live.Generation
}

// Messages are the verdict's notices and its conflicts in words.
func (v Verdict) Messages() []Message {
	out := append(v.Notices.Messages(), ConflictMessages(v.Conflicts, false)...)
	if v.Unjudged != nil {
		out = append(out, Message{Text: v.Unjudged.Error()})
	}
	return out
}

// Clean reports whether the namespace is as it should.
func (v Verdict) Clean() bool { return len(v.Differences) == 0 }

// Verify reads what is live and compares it with what is wanted; [OfTable], with what
// the table's tag says was written. It changes nothing. Errors are those of reading,
// among them nft.ErrNotPermitted, and a [*modes.ConfigError] for each problem that
// the configuration has in this environment.
func (c *Capture) Verify(ctx context.Context) (Verdict, error) {
	v, read, err := c.verify(ctx)
	if err == nil {
		c.judge(ctx, &v, read)
	}
	return v, err
}

// verified is what a comparison read.
type verified struct {
	live   *nft.Live
	wanted wanted // nothing, of what weir wrote
}

// judge looks for conflicts where that is asked for. What was just read is not read twice.
func (c *Capture) judge(ctx context.Context, v *Verdict, read verified) {
	if !c.options.Conflicts {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w, err := c.placed(read.wanted)
	if err != nil {
		v.Unjudged = err
		return
	}
	v.Conflicts, v.Unseen, v.Unjudged = c.conflictsOf(ctx, read.live, w)
}

// verify compares, and returns what it read.
func (c *Capture) verify(ctx context.Context) (v Verdict, read verified, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v = Verdict{Table: c.table}
	if err := c.connect(ctx, &v.Notices); err != nil {
		return v, read, err
	}
	if c.written {
		live, err := c.conn.Read(ctx, c.table)
		if err != nil {
			return v, read, c.failed("verify", err)
		}
		v.Applying, v.Absent, v.Generation = live.Applying, live.State.Table == nil, live.Generation()
		v.Differences, err = drift(c.table, live)
		return v, verified{live: live}, c.failed("verify", err)
	}
	w, err := c.standing(ctx)
	v.Notes = w.notes
	if err != nil {
		return v, read, err
	}
	live, found, err := c.session.Verify(ctx, w.state)
	if err != nil {
		return v, read, c.failed("verify", err)
	}
	if c.state == nil {
		standing, later := live.Standing(w.state)
		if v.Later = later; !slices.Equal(standing.Routes, w.state.Routes) {
			found = live.Differences(standing)
		}
	}
	v.Applying, v.Differences, v.Generation = live.Applying, found, live.Generation()
	programs, err := c.unassigned(w.state)
	v.Differences = append(v.Differences, programs...)
	return v, verified{live, w}, c.failed("verify", err)
}

// drift is in what a table is not as its tag says.
func drift(table string, live *nft.Live) ([]rules.Difference, error) {
	if live.State.Table == nil {
		return append([]rules.Difference{{Where: "table inet " + table, Want: "what an apply writes"}}, live.Leftovers()...), nil
	}
	return live.Drift()
}

const verifyPause = 200 * time.Millisecond

// Await verifies, again and again while the namespace is not as it should, for at
// most that time. The verdict is the last one.
func (c *Capture) Await(ctx context.Context, limit time.Duration) (Verdict, error) {
	for end := time.Now().Add(limit); ; {
		v, read, err := c.verify(ctx)
		if err == nil && (v.Clean() || !time.Now().Before(end)) {
			c.judge(ctx, &v, read)
			return v, nil
		}
		if err != nil {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-time.After(verifyPause):
		}
	}
}
