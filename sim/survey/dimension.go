// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
)

// dimension is one property of packets, cut into classes that no test tells
// apart.
type dimension struct {
	name    string // before a class's text
	classes []class
}

// class is some values of a property. Of each dimension one at most is all other
// values.
type class struct {
	text   string
	groups []string // what all classes of the same group are called together, the widest first
	other  bool
	value  any
}

// cut are the classes of the values within the bounds: those that are in the same
// tests make one. Format writes a range, best picks a value to stand for a class.
func cut(bounds []rules.Range, tests []test, format func(rules.Range) string, best func([]rules.Range) rules.Bits) []class {
	type group struct {
		in     []int // the tests
		ranges []rules.Range
	}
	var groups []*group
	byTests := map[string]*group{}
	add := func(r rules.Range, in []int) {
		key := fmt.Sprint(in)
		g := byTests[key]
		if g == nil {
			g = &group{in: slices.Clone(in)}
			byTests[key] = g
			groups = append(groups, g)
		}
		if n := len(g.ranges); n > 0 && follows(g.ranges[n-1], r) {
			g.ranges[n-1].Hi = r.Hi
			return
		}
		g.ranges = append(g.ranges, r)
	}
	for _, b := range bounds {
		sweep(b.Lo, b.Hi, tests, add)
	}
	var out []class
	for _, g := range groups {
		c := class{value: best(g.ranges), other: len(g.in) == 0}
		c.text = textOf(g.ranges, g.in, tests, format)
		out = append(out, c)
	}
	return out
}

const mostListed = 6 // ranges of a class that are written out

func textOf(ranges []rules.Range, in []int, tests []test, format func(rules.Range) string) string {
	var words []string
	for _, i := range in {
		if tests[i].live {
			return "@" + tests[i].name
		}
		if tests[i].name != "" && len(ranges) > mostListed {
			return fmt.Sprintf("@%s (%d)", tests[i].name, len(tests[i].ranges))
		}
	}
	for _, r := range ranges {
		words = append(words, format(r))
	}
	if len(words) > mostListed {
		words = append(words[:mostListed:mostListed], fmt.Sprintf("and %d more", len(ranges)-mostListed))
	}
	return strings.Join(words, ", ")
}

func follows(a, b rules.Range) bool {
	next, ok := a.After()
	return ok && next == b.Lo
}

// sweep visits the ranges from lo to hi between which the tests that hold change.
func sweep(lo, hi rules.Bits, tests []test, visit func(rules.Range, []int)) {
	type edge struct {
		at   rules.Bits
		test int
		by   int
	}
	var edges []edge
	for i, t := range tests {
		for _, r := range t.ranges {
			if len(r.Lo) != len(lo) || r.Hi < lo || hi < r.Lo {
				continue
			}
			edges = append(edges, edge{max(r.Lo, lo), i, 1})
			if after, ok := r.After(); ok && after <= hi {
				edges = append(edges, edge{after, i, -1})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	held := make([]int, len(tests))
	var in []int
	at := lo
	for k := 0; k < len(edges); {
		if edges[k].at > at {
			visit(rules.Range{Lo: at, Hi: edges[k].at.Before()}, in)
			at = edges[k].at
		}
		for ; k < len(edges) && edges[k].at == at; k++ {
			held[edges[k].test] += edges[k].by
		}
		in = in[:0]
		for i, n := range held {
			if n > 0 {
				in = append(in, i)
			}
		}
	}
	visit(rules.Range{Lo: at, Hi: hi}, in)
}

func span[T rules.Value](v T) rules.Bits { return rules.RangeOf(v).Lo }

func firstOf(ranges []rules.Range) rules.Bits { return ranges[0].Lo }

// ports are the classes of ports that the selectors read.
func ports(name string, all map[rules.Selector][]test, common int, selectors ...rules.Selector) dimension {
	var t []test
	for _, s := range selectors {
		t = append(t, all[s]...)
	}
	best := func(ranges []rules.Range) rules.Bits {
		want := span(rules.Port(common))
		for _, r := range ranges {
			if r.Lo <= want && want <= r.Hi {
				return want
			}
		}
		return ranges[0].Lo
	}
	return dimension{name, cut([]rules.Range{rules.RangeBetween[rules.Port](1, 65535)}, t, rules.TCPDport.Type().FormatRange, best)}
}

// ids are the classes of users or groups.
func ids(name string, t []test) dimension {
	return dimension{name, cut([]rules.Range{rules.RangeBetween[rules.UID](0, 1<<32-2)}, t, rules.SkUID.Type().FormatRange, firstOf)}
}

// ctStates are the first packets of connections and, where rules tell them apart,
// those that conntrack calls invalid.
func ctStates(tests []test) dimension {
	d := dimension{name: "ct state", classes: []class{{value: rules.CTState(0), other: true}}}
	if slices.ContainsFunc(tests, func(t test) bool { return t.holds(span(rules.CTInvalid)) != t.holds(span(rules.CTNew)) }) {
		d.classes = append(d.classes, class{text: "invalid", value: rules.CTInvalid})
	}
	return d
}
