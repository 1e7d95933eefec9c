// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"
)

const maxWildcards = 256 // that one range is written as

// Names are the interface names and wildcards that make up a range of them. Nft
// has no other ranges of names, but makes one range of wildcards that follow each
// other (eth0*, eth1*), in anonymous sets and where a set merges its elements. It
// returns false where the range begins or ends within a wildcard.
func (r Range) Names() ([]Range, bool) {
	var out []Range
	for at, more := r.Lo, true; more && at <= r.Hi; {
		if len(at) != ifNameSize || len(r.Hi) != ifNameSize || len(out) == maxWildcards {
			return nil, false
		}
		stem := strings.TrimRight(string(at), "\x00")
		one := nameSpan(stem + "*")
		switch {
		case !namesInterface(stem):
			return nil, false
		case at == r.Hi:
			one = single(at)
		case one.Hi > r.Hi:
			return nil, false
		}
		out = append(out, one)
		at, more = one.After()
	}
	return out, len(out) > 0
}

// namesInterface reports whether nft reads a name, or the stem of a wildcard, as
// it is written.
func namesInterface(stem string) bool {
	return stem != "" && !strings.ContainsFunc(stem, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`/"*\`, r) })
}

// withoutNameRanges writes ranges of interface names as the wildcards that they
// are made of.
func withoutNameRanges(elements []Element, key []DataType) []Element {
	if len(key) != 1 || key[0] != ifNameType || !slices.ContainsFunc(elements, isNameRange) {
		return elements
	}
	var out []Element
	for _, e := range elements {
		names, ok := []Range(nil), false
		if isNameRange(e) {
			names, ok = e.Key[0].Names()
		}
		if !ok {
			out = append(out, e)
			continue
		}
		for _, n := range names {
			one := e
			one.Key = []Range{n}
			out = append(out, one)
		}
	}
	return out
}

func isNameRange(e Element) bool {
	if len(e.Key) != 1 || e.Key[0].Single() {
		return false
	}
	bits, isPrefix := e.Key[0].PrefixBits()
	return !isPrefix || bits%8 != 0
}
