// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Graph is what to draw.
type Graph struct {
	Title   string   // what is drawn and, with a journey, of which packet
	Notes   []string // lines below the title
	Tables  []Table
	Routing []string
	Beside  []Chain // base chains of others, without their rules
	Counted bool    // counters are what a kernel counted: they are shown, with heat
	Journey *sim.Journey
	Fate    string // of the journey, in words
}

// Table is a table with its family and name in nft's words.
type Table struct {
	Title string
	Age   int // how many tables were made before it: of chains at one place, packets meet the newest first
	sim.Table
}

// Chain is a base chain of which only the place is drawn.
type Chain struct {
	Title string
	Age   int // of its table
	Table sim.Table
	Base  rules.Base
	Note  string
}

// picture is a graph put in order.
type picture struct {
	hooks   []hook
	loose   []*box // chains that no rule leads to
	most    uint64 // packets of the rule that counted most
	notes   map[string]bool
	numbers map[*rules.Chain]int
	drawn   map[int]bool // steps of the journey
}

type hook struct {
	hook  rules.Hook
	boxes []*box
}

// isBare reports whether no chain of the tables that are drawn has a rule there.
func (h hook) isBare() bool {
	return !slices.ContainsFunc(h.boxes, func(b *box) bool { return len(b.rules) > 0 })
}

// box is a chain, with those boxes below that its rules lead to and that no box
// before it has.
type box struct {
	table  Table
	chain  *rules.Chain // nil: another's, of which only the place is known
	title  string
	place  string
	note   string
	steps  []int // of the journey in what is not drawn, from 1
	order  int32 // among those of the hook; of equals the one that packets meet first comes first
	nat    int32 // its priority among nat chains, 0 of others
	age    int   // of its table
	rules  []line
	sets   []*rules.Set // that its rules use, and no box before
	below  []*box
	number int
}

func (g Graph) picture() *picture {
	p := &picture{notes: map[string]bool{}, numbers: map[*rules.Chain]int{}, drawn: map[int]bool{}}
	byHook := map[rules.Hook][]*box{}
	for _, t := range g.Tables {
		d := drawing{g: g, table: t, picture: p, chains: map[string]*rules.Chain{}, met: map[*rules.Chain]bool{}}
		for _, c := range t.Chains {
			d.chains[c.Name] = c
		}
		for _, c := range t.PacketOrder() {
			switch b := d.box(c); {
			case b == nil:
			case c.Base != nil:
				byHook[c.Base.Hook] = append(byHook[c.Base.Hook], b)
			default:
				p.loose = append(p.loose, b)
			}
		}
	}
	for _, c := range g.Beside {
		b := &box{title: c.Title, place: placeOf(&c.Base), note: c.Note, order: c.Base.Place(), nat: natPriority(c.Base), age: c.Age, number: p.next(nil)}
		b.steps = p.steps(g.Journey, c.has)
		byHook[c.Base.Hook] = append(byHook[c.Base.Hook], b)
	}
	for h, boxes := range byHook {
		slices.SortStableFunc(boxes, func(a, b *box) int {
			return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.nat, b.nat), -cmp.Compare(a.age, b.age))
		})
		p.hooks = append(p.hooks, hook{h, boxes})
	}
	slices.SortFunc(p.hooks, func(a, b hook) int { return rules.Base{Hook: a.hook}.Compare(rules.Base{Hook: b.hook}) })
	return p
}

// has reports whether a step was in the chain, or in one that it leads to.
func (c Chain) has(s sim.Step) bool {
	return c.Table.Table != nil && isOf(s, c.Table) && s.Chain != "" && s.Hook == c.Base.Hook && s.Priority == c.Base.Priority
}

// steps are those of a journey, from 1, that are drawn at one place.
func (p *picture) steps(j *sim.Journey, here func(sim.Step) bool) (out []int) {
	if j == nil {
		return nil
	}
	for i, s := range j.Steps {
		if here(s) {
			out = append(out, i+1)
			p.drawn[i+1] = true
		}
	}
	return out
}

// natPriority puts nat chains in order, which all work at their hook's place.
func natPriority(b rules.Base) int32 {
	if b.Type == rules.NATType {
		return b.Priority
	}
	return 0
}

func (p *picture) next(c *rules.Chain) int {
	n := len(p.numbers)
	if c == nil {
		c = &rules.Chain{}
	}
	p.numbers[c] = n
	return n
}

// drawing puts one table in order.
type drawing struct {
	g       Graph
	table   Table
	picture *picture
	chains  map[string]*rules.Chain
	met     map[*rules.Chain]bool
}

// box draws a chain, nil where it was met before.
func (d *drawing) box(c *rules.Chain) *box {
	if d.met[c] {
		return nil
	}
	d.met[c] = true
	b := &box{table: d.table, chain: c, title: c.Name, place: placeOf(c.Base), age: d.table.Age, number: d.picture.next(c)}
	if c.Base != nil {
		b.order, b.nat = c.Base.Place(), natPriority(*c.Base)
	}
	for i, r := range c.Rules {
		b.rules = append(b.rules, d.line(c, i, r))
		for _, name := range setsOf(r) {
			if s := d.table.Set(name); s != nil && !d.picture.notes[d.table.Title+" "+name] {
				d.picture.notes[d.table.Title+" "+name] = true
				b.sets = append(b.sets, s)
			}
		}
	}
	for _, r := range c.Rules {
		for _, target := range d.table.Targets(r) {
			if to := d.chains[target]; to != nil && to.Base == nil {
				if below := d.box(to); below != nil {
					b.below = append(b.below, below)
				}
			}
		}
	}
	return b
}

func placeOf(b *rules.Base) string {
	if b == nil {
		return ""
	}
	place := fmt.Sprintf("%s %d", b.Type, b.Priority)
	if len(b.Devices) > 0 {
		place += ", " + strings.Join(b.Devices, " ")
	}
	if b.Drop {
		place += ", policy drop"
	}
	return place
}
