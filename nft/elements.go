// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// ChangeLive changes elements of a table's live sets, and nothing else, in one
// commit. Decide is given the table as it is, nil where there is none, and says
// what to delete from and to add to which set; an element that takes another
// comment is both. Where another commit comes between the reading and this commit,
// decide is asked anew: changes that are made side by side do not lose each other.
func (c *Conn) ChangeLive(ctx context.Context, table string, decide func(*rules.Table) ([]rules.SetChange, error)) ([]rules.SetChange, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var changes []rules.SetChange
	defer c.endWatch()
	start := time.Now()
	err := again(ctx, func() (err error) {
		if changes, err = c.changeLive(ctx, table, decide); errors.Is(err, errGeneration) {
			c.beginWatch(ctx, table)
		}
		return err
	})
	if errors.Is(err, ErrChanged) {
		err = c.kept(start, errors.Unwrap(err))
	}
	return changes, err
}

func (c *Conn) changeLive(ctx context.Context, table string, decide func(*rules.Table) ([]rules.SetChange, error)) ([]rules.SetChange, error) {
	live, err := c.awaitLock(ctx, table)
	if err != nil {
		return nil, err
	}
	changes, err := decide(live.State.Table)
	if err != nil || countElements(changes) == 0 {
		return nil, err
	}
	b := &batch{}
	l := lower(b, live.State.Table)
	for _, change := range changes {
		if !change.Set.Live {
			return nil, fmt.Errorf("set %s is declared: an apply changes it", change.Set.Name)
		}
		l.deleteElements(change.Set, change.Delete)
		l.addElements(change.Set, change.Add)
	}
	generation := live.generation
	err = c.commit(ctx, b, generation)
	for tries := 0; errors.Is(err, errGeneration) && tries < maxRecommits; tries++ {
		now, gerr := c.generation(ctx)
		if gerr != nil || !c.quiet(ctx, generation, now) {
			break
		}
		generation = now
		err = c.commit(ctx, b, generation)
	}
	if err != nil {
		return nil, err
	}
	return changes, c.proveLive(ctx, table, following(generation), decide)
}

// maxRecommits is how often a change of elements is sent again before it is
// decided anew.
const maxRecommits = 32

// awaitLock reads once no apply is at work, or none has ended for long: an apply
// puts back the live elements that it found where it makes a table anew.
func (c *Conn) awaitLock(ctx context.Context, table string) (*Live, error) {
	for start := time.Now(); ; {
		live, err := c.readUnlocked(ctx, table, rules.State{}, everything())
		if err != nil || !live.busy() || time.Since(start) > lockPatience {
			return live, err
		}
		if err := pause(ctx, rand.N(maxRetryPause)); err != nil {
			return nil, err
		}
	}
}

// proveLive reads back at the generation of our own commit: nothing is left to
// decide. At any other one another program has decided since.
func (c *Conn) proveLive(ctx context.Context, table string, generation uint32, decide func(*rules.Table) ([]rules.SetChange, error)) error {
	live, err := c.read(context.WithoutCancel(ctx), table, rules.State{}, everything())
	if errors.Is(err, errGeneration) || err == nil && live.generation != generation {
		return nil
	}
	if err != nil {
		return err
	}
	left, err := decide(live.State.Table)
	if err == nil && countElements(left) > 0 {
		err = fmt.Errorf("set %s of table inet %s is not as it was written", left[0].Set.Name, table)
	}
	return err
}
