// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// mark reads value[/mask], in decimal or with 0x, with the mask that holds where
// none is written. The mask is 0 where there was a problem.
func (r *reader) mark(key string, mark MarkWord, mask rules.Mark) (rules.Mark, rules.Mark) {
	word := string(mark)
	v, m, masked := strings.Cut(word, "/")
	n, ok := parse.Number(v, 32, true)
	k := uint64(mask)
	if masked && ok {
		k, ok = parse.Number(m, 32, true)
	}
	switch {
	case !ok || k == 0:
		r.problem(key, word, "is not a mark (want a number such as 0x539 or 0x539/0xfff)")
	case n&^k != 0 && masked:
		r.problem(key, word, "has bits outside its mask: it never matches")
	case n&^k != 0:
		r.problem(key, word, "has bits outside its mask, %#x of %s: it never matches (want a mask that holds them, such as %s/%#x)", k, Ref{Key: "routing.mask"}, v, k|n)
	case n == 0 && (!masked || key != "routing.mark"): // istio-init writes it: the reference takes it
		r.problem(key, word, "is what packets without a mark have (want a number that is not 0)")
	default:
		return rules.Mark(n), rules.Mark(k)
	}
	return 0, 0
}

// mask reads the mask of marks that are written without one. It is every bit where
// there was a problem.
func (r *reader) mask(key string, mask MarkWord) rules.Mark {
	word := string(mask)
	n, ok := parse.Number(word, 32, true)
	if !ok || n == 0 {
		r.problem(key, word, "is not a mask of mark bits (want a number such as 0xfff, or 0xffffffff for whole marks)")
		return everyBit
	}
	return rules.Mark(n)
}

// noteNoMark tells of a mark that every packet without one has.
func (r *reader) noteNoMark(key string, mark, mask rules.Mark) {
	if mask != 0 && mark == 0 {
		r.note(key, "0 is what packets without a mark have: every packet is routed by %s, and none comes in by the proxy", Ref{Key: "routing.table"})
	}
}
