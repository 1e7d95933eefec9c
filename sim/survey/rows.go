// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"slices"

	"github.com/weir-mesh/weir/sim"
)

// Row is a set of packets that are treated alike, and one of them.
type Row[T comparable] struct {
	Who, Where string
	Outcome    T
	Example    sim.Packet
}

// Rows evaluates a packet of every class, and joins classes of one outcome. Of
// packets for which there is none, false says so: no row need name them, and any
// may hold them. Rows are in the order of their outcomes, of those that are shown.
func Rows[T comparable](s *Space, outcome func(sim.Packet) (T, bool), order func(a, b T) int, shown func(T) bool) []Row[T] {
	c := newCover(s, outcome)
	cells := make([][]int, len(c.known)) // of each outcome
	for i, o := range c.outcomes {
		if o >= 0 {
			cells[o] = append(cells[o], i)
		}
	}
	slices.SortStableFunc(cells, func(a, b []int) int { return order(c.known[c.outcomes[a[0]]], c.known[c.outcomes[b[0]]]) })
	var rows []Row[T]
	for _, of := range cells {
		if !shown(c.known[c.outcomes[of[0]]]) {
			continue
		}
		for _, b := range c.needed(c.blocks(of)) {
			p, _ := s.packet(s.cell(b.seed))
			who, where := s.describe(b.box)
			rows = append(rows, Row[T]{who, where, c.known[c.outcomes[b.seed]], p})
		}
	}
	return rows
}

const seedsAtOnce = 8 // cells around which boxes are tried, to take the one that covers most

// blocks cover the cells of one outcome.
func (c *cover[T]) blocks(cells []int) []block {
	covered := make([]bool, c.cells)
	var out []block
	for len(cells) > 0 {
		var best block
		most := 0
		for k := range min(seedsAtOnce, len(cells)) {
			seed := cells[k*len(cells)/min(seedsAtOnce, len(cells))]
			if b, n := c.widest(seed, covered); n > most {
				best, most = block{b, seed}, n
			}
		}
		best.box = c.trimmed(best.box)
		c.visit(best.box, func(i int) bool { covered[i] = true; return true })
		out = append(out, best)
		cells = slices.DeleteFunc(cells, func(i int) bool { return covered[i] })
	}
	return out
}

// block is a box, with the cell that it was made around.
type block struct {
	box
	seed int
}

// needed are the boxes without which something would not be covered.
func (c *cover[T]) needed(all []block) []block {
	times := make([]int, c.cells)
	for _, b := range all {
		c.visit(b.box, func(i int) bool { times[i]++; return true })
	}
	return slices.DeleteFunc(all, func(b block) bool {
		spare := c.visit(b.box, func(i int) bool { return c.outcomes[i] < 0 || times[i] > 1 })
		if spare {
			c.visit(b.box, func(i int) bool { times[i]--; return true })
		}
		return spare
	})
}

// trimmed is the box less the classes in which it holds no packet, where it does
// not hold all of them.
func (c *cover[T]) trimmed(b box) box {
	for d := range dimensions {
		if len(b[d]) == len(c.dims[d].classes) {
			continue
		}
		b[d] = slices.DeleteFunc(slices.Clone(b[d]), func(class int) bool {
			slab := b
			slab[d] = []int{class}
			return c.visit(slab, func(i int) bool { return c.outcomes[i] < 0 })
		})
	}
	return b
}

// cover knows every cell's outcome by number; -1 is none.
type cover[T comparable] struct {
	*Space
	outcomes []int
	known    []T
}

func newCover[T comparable](s *Space, outcome func(sim.Packet) (T, bool)) *cover[T] {
	c := &cover[T]{Space: s, outcomes: make([]int, s.cells)}
	numbers := map[T]int{}
	cell := make([]int, dimensions)
	for i := range c.outcomes {
		c.outcomes[i] = -1
		s.cellInto(i, cell)
		p, ok := s.packet(cell)
		if !ok {
			continue
		}
		o, ok := outcome(p)
		if !ok {
			continue
		}
		n, seen := numbers[o]
		if !seen {
			n = len(c.known)
			numbers[o] = n
			c.known = append(c.known, o)
		}
		c.outcomes[i] = n
	}
	return c
}

// box are some classes of each dimension.
type box [dimensions][]int

// widest is the box around a cell, all of its outcome, that covers most of what
// is not covered, of those that widening in several orders finds.
func (c *cover[T]) widest(seed int, covered []bool) (best box, most int) {
	for first := range dimensions {
		b := c.widened(seed, first)
		n := 0
		c.visit(b, func(i int) bool {
			if c.outcomes[i] >= 0 && !covered[i] {
				n++
			}
			return true
		})
		if n > most {
			best, most = b, n
		}
	}
	return best, most
}

// widened is the cell, widened dimension after dimension by what has its outcome.
func (c *cover[T]) widened(seed, first int) box {
	var b box
	for d, at := range c.cell(seed) {
		b[d] = []int{at}
	}
	want := c.outcomes[seed]
	for k := range dimensions {
		d := (first + k) % dimensions
		own := b[d][0]
		for class := range c.dims[d].classes {
			if class == own {
				continue
			}
			slab := b
			slab[d] = []int{class}
			if c.visit(slab, func(i int) bool { return c.outcomes[i] < 0 || c.outcomes[i] == want }) {
				b[d] = append(b[d], class)
			}
		}
		slices.Sort(b[d])
	}
	return b
}

// visit goes through the cells of a box until told to stop.
func (s *Space) visit(b box, each func(int) bool) bool {
	var at [dimensions]int
	for {
		i := 0
		for d := range dimensions {
			i = i*len(s.dims[d].classes) + b[d][at[d]]
		}
		if !each(i) {
			return false
		}
		d := dimensions - 1
		for d >= 0 {
			if at[d]++; at[d] < len(b[d]) {
				break
			}
			at[d] = 0
			d--
		}
		if d < 0 {
			return true
		}
	}
}

// cell are the classes of a cell.
func (s *Space) cell(i int) []int {
	out := make([]int, dimensions)
	s.cellInto(i, out)
	return out
}

func (s *Space) cellInto(i int, out []int) {
	for d := dimensions - 1; d >= 0; d-- {
		n := len(s.dims[d].classes)
		out[d] = i % n
		i /= n
	}
}
