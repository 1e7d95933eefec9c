// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// Live is what a network namespace holds of one table and its routing.
type Live struct {
	State    rules.State // what weir wrote, lifted
	Tag      *Tag        // nil: the table has none that can be read
	Leftover bool        // the table <name>-next of an apply that was killed
	Foreign  []ForeignChain
	Applying *Holder // of the lock, where what was read may be half of its change; else nil

	read       scope        // how much of State.Table
	listed     *rules.Table // State.Table with elements apart where the kernel has them apart
	table      string
	tagged     bool // there is a set of the tag's name, readable or not
	alone      bool
	lock       *lockState
	notOurs    []*NotOursError
	otherTags  []*Tag // of other tables that weir wrote
	generation uint32
	routing    routing
}

// Generation is the ruleset's at which everything was read; it wraps around.
func (l *Live) Generation() uint32 { return l.generation }

// Alone reports whether no table of another name was there, of any family.
func (l *Live) Alone() bool { return l.alone }

// any reports whether there is anything of weir's.
func (l *Live) any() bool {
	return l.State.Table != nil || l.Leftover || !l.routing.change(rules.State{}, l.Tag).empty()
}

// covers reports whether that much is known of the table: everything where there is none.
func (l *Live) covers(with scope) bool { return l.State.Table == nil || l.read.covers(with) }

// busy reports whether another program applies at this moment, as far as the lock
// tells.
func (l *Live) busy() bool { return l.lock != nil && l.lock.owned }

const readPause = 3 * time.Millisecond

var (
	// patience is how long a verb bears with others who change the rules.
	patience = 30 * time.Second
	// lockPatience is how long it waits for one that holds the lock. An apply holds it
	// for milliseconds; who holds it longer may mean to.
	lockPatience = 2 * time.Second
)

// Read reads what the namespace holds of the table, at one generation. It takes no
// lock and waits for none. What looks half changed while another program applies is
// read again for a moment, see [Live.Applying].
func (c *Conn) Read(ctx context.Context, table string) (*Live, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readSettled(ctx, table, rules.State{}, everything(), func(l *Live) bool {
		drift, err := l.Drift()
		return err != nil || len(drift) > 0
	})
}

// readSettled reads again while another program commits meanwhile and, for as long as
// [lockPatience], while another apply is at work and what was read looks like half
// of its change. What is wanted decides which routing of others counts.
func (c *Conn) readSettled(ctx context.Context, table string, wanted rules.State, with scope, half func(*Live) bool) (*Live, error) {
	defer c.endWatch()
	wait := lockPatience
	if end, bounded := ctx.Deadline(); bounded { // to tell what was read takes time too
		wait = min(wait, time.Until(end)/2)
	}
	for start := time.Now(); ; {
		live, err := c.readUnlocked(ctx, table, wanted, with)
		if err != nil || !live.busy() || !half(live) {
			return live, err
		}
		if time.Since(start) > wait {
			holder := c.holder(ctx, live.lock.port)
			live.Applying = &holder
			return live, nil
		}
		if err := pause(ctx, rand.N(maxRetryPause)); err != nil {
			return nil, err
		}
	}
}

// readUnlocked reads, and again while another program commits to what is read.
func (c *Conn) readUnlocked(ctx context.Context, table string, wanted rules.State, with scope) (*Live, error) {
	for start := time.Now(); ; {
		live, err := c.read(ctx, table, wanted, with)
		if !errors.Is(err, errGeneration) {
			return live, err
		}
		if time.Since(start) > patience {
			return nil, c.kept(start, err)
		}
		c.beginWatch(ctx, table)
		if err := pause(ctx, rand.N(readPause)); err != nil {
			return nil, c.interrupted(start, err)
		}
	}
}

// read reads once; where another program commits meanwhile, the error is
// errGeneration.
func (c *Conn) read(ctx context.Context, table string, wanted rules.State, with scope) (*Live, error) {
	var t tables
	var r routing
	generation, err := c.atOneGeneration(ctx, func() (err error) {
		if t, err = c.readTables(ctx, table, with); err == nil {
			r, err = c.readRouting(ctx, wanted, t.otherTags)
		}
		if err == nil {
			err = c.readGone(ctx, t.tag, &r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	live := &Live{Tag: t.tag, Leftover: t.leftover, Foreign: t.foreign,
		table: table, tagged: t.tagged, alone: t.alone, lock: t.lock, notOurs: t.notOurs, otherTags: t.otherTags, generation: generation, routing: r, read: with}
	live.State = r.ours(wanted, t.tag)
	live.State.Table = t.own
	live.State = live.State.Normal()
	live.listed = apart(live.State.Table, t.own)
	return live, nil
}

// apart is the normal table with those elements that were merged as they stand
// in the kernel: they can be deleted one by one only. Where none were, it is the
// same table.
func apart(normal, own *rules.Table) *rules.Table {
	if own == nil {
		return nil
	}
	t := normal
	for i, s := range own.Sets {
		if len(s.Elements) == len(normal.Sets[i].Elements) {
			continue
		}
		if t == normal {
			c := *normal
			c.Sets = slices.Clone(c.Sets)
			t = &c
		}
		t.Sets[i] = s
	}
	return t
}

// Refusal is why an apply of that state, or a remove where it is none, would
// change nothing: it joins a [*NotOursError] for each table in the way. A table
// that holds what is wanted is in no other's way: it only gets a tag.
func (l *Live) Refusal(want rules.State) error { return l.refusal(want.Normal()) }

// refusal is Refusal of a state in normal form.
func (l *Live) refusal(want rules.State) error {
	var out []error
	for _, s := range l.notOurs {
		if s.Table != l.table || want.Table == nil || len((rules.State{Table: want.Table}).ChangesFrom(rules.State{Table: l.State.Table}).Differences) > 0 {
			out = append(out, s)
		}
	}
	return errors.Join(out...)
}
