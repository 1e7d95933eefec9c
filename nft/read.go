//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
)

// Live is what a network namespace holds of one table and its routing.
type Live struct {
	State    rules.State // what is ours, lifted
	Tag      *Tag        // nil: the table has none that can be read
	Leftover bool        // the table <name>-next of an apply that was killed
	Foreign  []ForeignChain
	Applying *Holder // of the lock, where what was read may be half of its change; else nil

	bare       bool         // the elements of State.Table were not read
	listed     *rules.Table // State.Table with elements apart where the kernel has them apart
	table      string
	tagged     bool // there is a set of the tag's name, readable or not
	lock       *lockState
	notOurs    []*NotOursError
	otherTags  []*Tag // of other tables that weir wrote
	generation uint32
	routing    routing
}

// any reports whether there is anything of ours.
func (l *Live) any() bool {
	return l.State.Table != nil || l.Leftover || !l.routing.change(rules.State{}, l.Tag).empty()
}

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
	return c.readSettled(ctx, table, rules.State{}, allElements, func(l *Live) bool {
		drift, err := l.Drift()
		return err != nil || len(drift) > 0
	})
}

// readSettled reads again while somebody commits meanwhile and, for as long as
// [lockPatience], while another apply is at work and what was read looks like half
// of its change. What is wanted decides which routing of others counts.
func (c *Conn) readSettled(ctx context.Context, table string, wanted rules.State, with elementsFilter, half func(*Live) bool) (*Live, error) {
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

// readUnlocked reads, and again while somebody commits to what is read.
func (c *Conn) readUnlocked(ctx context.Context, table string, wanted rules.State, with elementsFilter) (*Live, error) {
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

// read reads once; where somebody commits meanwhile, the error is
// errGeneration.
func (c *Conn) read(ctx context.Context, table string, wanted rules.State, with elementsFilter) (*Live, error) {
	var t tables
	var r routing
	generation, err := c.atOneGeneration(ctx, func() (err error) {
		if t, err = c.readTables(ctx, table, with); err == nil {
			r, err = c.readRouting(ctx, wanted, t.otherTags)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	live := &Live{Tag: t.tag, Leftover: t.leftover, Foreign: t.foreign,
		table: table, tagged: t.tagged, lock: t.lock, notOurs: t.notOurs, otherTags: t.otherTags, generation: generation, routing: r}
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

// Differences lists in what the live state is not the wanted one, with what a
// killed apply left behind; and if nothing else differs, the tag.
func (l *Live) Differences(want rules.State) []rules.Difference {
	return l.contrast(want.Normal()).Differences
}

// contrast compares with a state in normal form. Its differences are those of
// Differences.
func (l *Live) contrast(want rules.State) rules.Changes {
	have := l.routing.ours(want, l.Tag).Normal()
	have.Table = l.State.Table
	c := want.ChangesFrom(have)
	if len(c.Differences) == 0 && want.Table != nil {
		c.Differences = l.tagDifferences(want) // else it is one more consequence
	}
	if !continuity.IsDraining(want.Table) {
		c.Differences = append(c.Differences, l.draining()...)
	}
	c.Differences = append(c.Differences, l.extras()...)
	return c
}

// changeTo is how the tables differ, with elements as the kernel has them.
func (l *Live) changeTo(want rules.State, known rules.Changes) rules.Changes {
	if l.listed == l.State.Table {
		return known
	}
	return (rules.State{Table: want.Table}).ChangesFrom(rules.State{Table: l.listed})
}

// draining says of a table that it captures nothing, which its tag takes for right.
func (l *Live) draining() []rules.Difference {
	if !continuity.IsDraining(l.State.Table) {
		return nil
	}
	return []rules.Difference{{Where: "table inet " + l.table,
		Have: "draining: nothing new is captured, and captured connections go on; weir remove ends them, weir apply captures again"}}
}

// Leftovers is what a killed apply left behind: without a table that includes
// all routing of ours.
func (l *Live) Leftovers() []rules.Difference {
	if l.State.Table == nil {
		return l.Differences(rules.State{})
	}
	return l.extras()
}

// extras are what is never wanted.
func (l *Live) extras() []rules.Difference {
	d := l.routing.differences()
	if l.Leftover {
		d = append(d, rules.Difference{Where: "table inet " + reserved.Next(l.table), Have: "left by an apply that was cut short; the next apply or remove takes it away"})
	}
	for _, s := range l.notOurs {
		if s.Table != l.table {
			d = append(d, rules.Difference{Where: "table inet " + s.Table, Have: "weir did not write it, and neither applies nor removes while it is there"})
		}
	}
	return d
}

// Refusal is why an apply of that state, or a remove where it is none, would
// change nothing: it joins a [*NotOursError] for each table in the way. A table
// that holds what is wanted is in nobody's way: it only gets a tag.
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

func (l *Live) tagDifferences(want rules.State) []rules.Difference {
	if l.Tag == nil {
		return []rules.Difference{{Where: "set " + reserved.Tag, Want: "what weir wrote, and which version"}}
	}
	written := newTag(l.routing.withoutForeign(want), "", want.Addresses, nil)
	if l.Tag.Schema == tagSchema && !l.Tag.says(written) {
		return []rules.Difference{{Where: "set " + reserved.Tag, Want: "state " + written.Hash, Have: "state " + escape.Text(l.Tag.Hash)}}
	}
	return nil
}

// Drift compares the live state with what its tag says was written, for those
// who have no configuration at hand: it names the chains, sets, policy rules,
// routes and addresses that are not as they were.
func (l *Live) Drift() ([]rules.Difference, error) {
	if l.State.Table == nil {
		return l.Leftovers(), nil
	}
	if l.Tag == nil {
		return append(l.tagDifferences(rules.State{}), l.extras()...), nil
	}
	if l.Tag.Schema != tagSchema {
		return nil, fmt.Errorf("the tag is of schema %d, this program knows %d: compare with a configuration", l.Tag.Schema, tagSchema)
	}
	have := l.routing.ours(rules.State{Addresses: l.Tag.Addresses}, nil)
	have.Table = l.State.Table
	return slices.Concat(l.Tag.differences(have), l.draining(), l.extras()), nil
}
