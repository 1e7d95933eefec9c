// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// Ruleset is every table of a network namespace, of any program, lifted as far
// as the model goes. Tables are in order of their families and names.
type Ruleset struct {
	Tables []*LiveTable
}

// LiveTable is one table of a ruleset.
type LiveTable struct {
	*rules.Table
	Family  string  // in nft's word: inet, ip, ip6, arp, bridge or netdev
	Tag     *Tag    // nil: not one of weir's, or its tag cannot be read
	Owner   *Holder // of the socket with which the table goes; nil: it belongs to none
	made    uint64  // the table's handle,
	chains  uint64  // and the highest of its base chains
	objects int     // chains, sets and rules that it holds
	handles map[uint64]RulePlace
}

// Order is whether the chains of one table were registered before those of another, as
// far as handles tell: of chains with one priority the kernel calls the one that was
// registered last first.
type Order int

// Orders.
const (
	OrderUnknown Order = iota
	Before             // its chains were registered first, and run last
	After
)

// Registered is whether the table's base chains were registered before the other's.
// Tables have handles in the order in which they were made, and so has what a table
// holds, chains and sets before rules: where a base chain's is higher than there are
// chains and sets, the chain was made again since, at an unknown time.
func (t *LiveTable) Registered(other *LiveTable) Order {
	switch {
	case t.made < other.made && !t.remade():
		return Before
	case t.made > other.made && !other.remade():
		return After
	}
	return OrderUnknown
}

func (t *LiveTable) remade() bool { return t.chains > uint64(t.objects) }

// RulePlace is where in a table a rule stands.
type RulePlace struct {
	Chain string
	Index int
}

// Title is the table's family and name, as nft writes them, escaped: its
// name is what another program chose.
func (t *LiveTable) Title() string { return t.Family + " " + escape.Text(t.Name) }

// Find is the table of that family and name, nil where there is none.
func (r *Ruleset) Find(family, name string) *LiveTable {
	for _, t := range r.Tables {
		if t.Family == family && t.Name == name {
			return t
		}
	}
	return nil
}

// Rule is the place of the rule with that handle, and false where the table was
// read before it came.
func (t *LiveTable) Rule(handle uint64) (RulePlace, bool) {
	p, ok := t.handles[handle]
	return p, ok
}

// Ruleset reads all tables at one generation.
func (c *Conn) Ruleset(ctx context.Context) (*Ruleset, error) {
	return c.RulesetWith(ctx, func(*LiveTable) bool { return true })
}

// RulesetWith reads all tables at one generation. The elements of a table's named
// sets are read where with says so, which is given the table's family, name and
// tag: of others there may be hundreds of thousands.
func (c *Conn) RulesetWith(ctx context.Context, with func(*LiveTable) bool) (*Ruleset, error) {
	return c.ruleset(ctx, func(*LiveTable) bool { return true }, with)
}

// RulesetBeside reads all tables at one generation, for a caller who has read some of
// them already: known says so of a table of that family and name, of which its chains
// without rules and its sets without elements are read again.
func (c *Conn) RulesetBeside(ctx context.Context, known func(*LiveTable) bool) (*Ruleset, error) {
	others := func(t *LiveTable) bool { return !known(t) }
	return c.ruleset(ctx, others, others)
}

// ruleset reads all tables: the rules and the elements of those of which the functions say so.
func (c *Conn) ruleset(ctx context.Context, withRules, withElements func(*LiveTable) bool) (*Ruleset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tables []*LiveTable
	err := again(ctx, func() error {
		_, err := c.atOneGeneration(ctx, func() (err error) {
			tables, err = c.allTables(ctx, withRules, withElements)
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Ruleset{tables}, nil
}

func (c *Conn) allTables(ctx context.Context, withRules, withElements func(*LiveTable) bool) ([]*LiveTable, error) {
	heads, err := c.tableHeads(ctx, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	chains, made, err := c.chainsAndHandles(ctx)
	if err != nil {
		return nil, err
	}
	var out []*LiveTable
	for key, head := range heads {
		t := &LiveTable{Table: &rules.Table{Name: key.name}, Family: familyName(key.family), made: head.handle, handles: map[uint64]RulePlace{}}
		if head.owner != 0 {
			holder := c.holder(ctx, head.owner)
			t.Owner = &holder
		}
		var tag *rules.Set
		asked := false
		t.Table, tag, err = c.table(ctx, key, head.flags, chains[key], t.handles, scope{rules: withRules(t), elements: func(tag *rules.Set) bool {
			if tag != nil && signed(tag) {
				t.Tag = parseTag(tag)
			}
			asked = withElements(t)
			return asked
		}})
		if err != nil {
			return nil, err
		}
		if tag != nil && !signed(tag) { // a set like any other
			tag.Elements = nil
			if asked {
				if err := c.readElements(ctx, key, tag); err != nil {
					return nil, err
				}
			}
			t.Sets = append(t.Sets, tag)
		}
		t.objects = len(t.Chains) + len(t.Sets)
		if tag != nil {
			t.objects++
		}
		t.chains = made[key]
		t.Table = rules.State{Table: t.Table}.Normal().Table
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *LiveTable) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func familyName(family uint8) string {
	if name, ok := familyNames[family]; ok {
		return name
	}
	switch family {
	case unix.NFPROTO_ARP:
		return "arp"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	}
	return strconv.Itoa(int(family))
}
