package survey

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
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

// test is what rules ask of a property: whether its value is one of these.
type test struct {
	name   string // of a declared set
	live   bool   // which changes at run time
	ranges []rules.Range
	mask   rules.Bits
}

// tests are those of the tables, by selector.
func tests(tables []*rules.Table) map[rules.Selector][]test {
	out := map[rules.Selector][]test{}
	add := func(key []rules.Selector, name string, elements []rules.Element, mask rules.Bits) {
		for i, s := range key {
			t := test{name: name, mask: mask}
			for _, e := range elements {
				t.live = t.live || e.Comment == atRunTime
				if i < len(e.Key) {
					t.ranges = append(t.ranges, e.Key[i])
				}
			}
			if len(key) == 1 && mask != "" || len(key) > 1 {
				out[s] = append(out[s], apart(t)...)
			} else {
				out[s] = append(out[s], t)
			}
		}
	}
	for _, t := range tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				for _, n := range r.Nodes {
					switch n := n.(type) {
					case rules.Match:
						add(n.Key, n.Set, elements(t, n.Set, n.Elements), n.Mask)
					case rules.VMap:
						all := elements(t, n.Map, n.Elements)
						for v := range verdicts(all) {
							add(n.Key, n.Map, with(all, v), "")
						}
					}
				}
			}
		}
	}
	return out
}

func elements(t *rules.Table, set string, inline []rules.Element) []rules.Element {
	if s := t.Set(set); s != nil {
		return s.Elements
	}
	return inline
}

func verdicts(elements []rules.Element) map[rules.Verdict]bool {
	out := map[rules.Verdict]bool{}
	for _, e := range elements {
		out[e.Verdict] = true
	}
	return out
}

func with(elements []rules.Element, v rules.Verdict) []rules.Element {
	return slices.DeleteFunc(slices.Clone(elements), func(e rules.Element) bool { return e.Verdict != v })
}

// apart is a test for each value: of the parts of a concatenation, which belong
// together, and under a mask.
func apart(t test) []test {
	var out []test
	for _, r := range t.ranges {
		out = append(out, test{t.name, t.live, []rules.Range{r}, t.mask})
	}
	return out
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
	return dimension{name, cut([]rules.Range{rules.RangeBetween[rules.Port](1, 65535)}, t, rules.InetService.FormatRange, best)}
}

// ids are the classes of users or groups.
func ids(name string, t []test) dimension {
	return dimension{name, cut([]rules.Range{rules.RangeBetween[rules.UID](0, 1<<32-2)}, t, rules.UIDType.FormatRange, firstOf)}
}

// markTests are the tests that a packet's mark may come to: by rules, of its socket
// or its connection too, which marks are copied to, and by policy rules.
func markTests(all map[rules.Selector][]test, host sim.Host, states []rules.State) []test {
	out := slices.Concat(all[rules.MetaMark.Selector()], all[rules.SocketMark.Selector()], all[rules.CTMark.Selector()])
	for _, s := range states {
		for _, l := range host.With(s).PolicyRules {
			if l.Mask != 0 {
				out = append(out, test{ranges: []rules.Range{rules.RangeOf(l.Mark & l.Mask)}, mask: span(l.Mask)})
			}
		}
	}
	return out
}

const (
	anyMark     = rules.Mark(1<<32 - 1)
	maxMarks    = 1 << 12 // candidates
	bitsOfAMark = 32
)

// marks are classes of packet marks. Under masks they are not ranges: then they are
// found among candidates, which are the marks that tests name, those that differ
// from one in a bit, and what meets several tests at once.
func marks(tests []test) (dimension, error) {
	d := dimension{name: "mark"}
	if !slices.ContainsFunc(tests, func(t test) bool { return t.masked() }) {
		d.classes = cut([]rules.Range{rules.RangeBetween(0, anyMark)}, tests, hexRange, firstOf)
		return d, nil
	}
	candidates := []rules.Bits{span(rules.Mark(0))}
	for _, t := range tests {
		for _, r := range t.ranges {
			candidates = append(candidates, r.Lo, r.Hi)
		}
	}
	for _, v := range slices.Clone(candidates) {
		for bit := range bitsOfAMark {
			candidates = append(candidates, span(rules.Mark(v.Uint64())^1<<bit))
		}
	}
	for _, t := range tests {
		if t.masked() {
			for _, v := range candidates {
				candidates = append(candidates, span(rules.Mark(v.Uint64()&^t.mask.Uint64()|t.ranges[0].Lo.Uint64())))
			}
			slices.Sort(candidates)
			candidates = slices.Compact(candidates)
		}
		if len(candidates) > maxMarks {
			return d, fmt.Errorf("%w: by their marks", ErrTooMany)
		}
	}
	known := map[string]bool{}
	for _, v := range candidates {
		c := class{value: v, other: true}
		signature := ""
		for i, t := range tests {
			if !t.holds(v) {
				continue
			}
			signature += fmt.Sprint(i, " ")
			if text := t.markText(); c.other || !t.masked() {
				c.text, c.other = text, false
			} else if !strings.Contains(c.text, text) {
				c.text += " and " + text
			}
		}
		if !known[signature] {
			known[signature] = true
			d.classes = append(d.classes, c)
		}
	}
	return d, nil
}

func (t test) masked() bool { return t.mask != "" && t.mask != span(anyMark) }

func (t test) markText() string {
	text := hexRange(t.ranges[0])
	if t.masked() {
		text += fmt.Sprintf("/0x%x", t.mask.Uint64())
	}
	return text
}

func hexRange(r rules.Range) string {
	if r.Single() {
		return fmt.Sprintf("0x%x", r.Lo.Uint64())
	}
	return fmt.Sprintf("0x%x-0x%x", r.Lo.Uint64(), r.Hi.Uint64())
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

func (t test) holds(v rules.Bits) bool {
	b := []byte(v)
	for i := range t.mask {
		b[i] &= t.mask[i]
	}
	return slices.ContainsFunc(t.ranges, func(r rules.Range) bool { return r.Lo <= rules.Bits(b) && rules.Bits(b) <= r.Hi })
}

func addrOf(b rules.Bits) netip.Addr {
	a, _ := netip.AddrFromSlice([]byte(b))
	return a
}
