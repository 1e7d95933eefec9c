// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

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
