// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
)

// rules aligns the two lists on their longest common subsequence. What stands
// between two common rules is paired off in order as changed rules; the rest
// is missing or extra.
func (d *differences) rules(where string, want, have []Rule) {
	w, h := mapped(want, Rule.key), mapped(have, Rule.key)
	i, j := 0, 0
	for _, pair := range append(commonRules(w, h), [2]int{len(w), len(h)}) {
		for ; i < pair[0] || j < pair[1]; i, j = min(i+1, pair[0]), min(j+1, pair[1]) {
			switch {
			case i < pair[0] && j < pair[1]:
				d.add(rulePlace(where, i, want[i]), want[i].body(have[j]), have[j].body(want[i]))
			case i < pair[0]:
				d.add(rulePlace(where, i, want[i]), want[i].body(want[i]), "")
			default:
				d.add(rulePlace(where, j, have[j]), "", have[j].body(have[j]))
			}
		}
		i, j = pair[0]+1, pair[1]+1
	}
}

func rulePlace(where string, i int, r Rule) string {
	if r.Reason == "" {
		return fmt.Sprintf("%s rule %d", where, i+1)
	}
	return fmt.Sprintf("%s rule %d %s", where, i+1, quote(r.Reason))
}

// body is the rule without its reason, unless the reasons are what differs.
func (r Rule) body(other Rule) string {
	if r.Reason == other.Reason {
		r.Reason = ""
	}
	return r.String()
}

// Equal reports whether the two rules say the same, for the same reason.
func (r Rule) Equal(o Rule) bool { return r.normal().key() == o.normal().key() }

// key is what makes two rules the same. It holds the bytes of what the model
// does not know and of a reason that the text escapes.
func (r Rule) key() string {
	key := r.String()
	if escape.Text(r.Reason) != r.Reason {
		key += "\x00reason\x00" + r.Reason
	}
	for _, n := range r.Nodes {
		if o, ok := n.(Opaque); ok {
			key += "\x00opaque\x00" + string(o.Raw)
		}
	}
	return key
}

const maxAligned = 2000 // rules; the alignment's cost is their product

// commonRules are the index pairs of a longest common subsequence; of two long
// lists, those of the common head and tail alone.
func commonRules(a, b []string) [][2]int {
	var head, tail [][2]int
	lo := 0
	for lo < len(a) && lo < len(b) && a[lo] == b[lo] {
		head = append(head, [2]int{lo, lo})
		lo++
	}
	ea, eb := len(a), len(b)
	for ea > lo && eb > lo && a[ea-1] == b[eb-1] {
		ea, eb = ea-1, eb-1
		tail = append(tail, [2]int{ea, eb})
	}
	slices.Reverse(tail)
	if ea-lo <= maxAligned && eb-lo <= maxAligned {
		for _, p := range longestCommon(a[lo:ea], b[lo:eb]) {
			head = append(head, [2]int{p[0] + lo, p[1] + lo})
		}
	}
	return append(head, tail...)
}

func longestCommon(a, b []string) [][2]int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			length[i][j] = max(length[i+1][j], length[i][j+1])
			if a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	var pairs [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}
