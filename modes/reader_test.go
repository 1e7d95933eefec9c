// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// FuzzOverlapping compares with the plain way: every word with every other.
func FuzzOverlapping(f *testing.F) {
	f.Add(uint16(80), uint16(90), uint16(85), uint16(85), uint16(1), uint16(100))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g uint16) {
		word := func(x, y uint16) string {
			return portText(rules.RangeBetween(rules.Port(max(min(x, y), 1)), rules.Port(max(x, y, 1))))
		}
		others := []PortWord{PortWord(word(a, b)), PortWord(word(c, d)), "no port"}
		r := &reader{}
		r.overlapping("x", []PortWord{PortWord(word(e, g))}, "y", others)
		quiet := &reader{}
		p, _ := quiet.portRange("", word(e, g))
		want := slices.ContainsFunc(others, func(o PortWord) bool {
			q, ok := quiet.portRange("", string(o))
			return ok && p.Lo <= q.Hi && q.Lo <= p.Hi
		})
		if (len(r.problems) > 0) != want {
			t.Errorf("%s and %q: %v", word(e, g), others, r.problems)
		}
	})
}
