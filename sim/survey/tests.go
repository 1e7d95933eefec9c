// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

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

func (t test) masked() bool { return t.mask != "" && t.mask != span(anyMark) }

func (t test) holds(v rules.Bits) bool {
	b := []byte(v)
	for i := range t.mask {
		b[i] &= t.mask[i]
	}
	return slices.ContainsFunc(t.ranges, func(r rules.Range) bool { return r.Lo <= rules.Bits(b) && rules.Bits(b) <= r.Hi })
}
