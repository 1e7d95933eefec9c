// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

const mutantsPerRule = 30

// mutate flips bits in the rules of a table: no other rule may be lifted as
// the same, whether or not the model knows it.
func (r *roundTrip) mutate(s script, read reading) {
	declared, err := r.c.sets(r.t.Context(), s.of())
	if err != nil {
		s.fail(r, "its sets cannot be read: %v", err)
		return
	}
	for _, set := range declared.named {
		declared.byName[set.Name] = set
	}
	family := families[s.of().family]
	random := rand.New(rand.NewPCG(s.seed, 0))
	chains := read.raw[s.of()]
	for _, chain := range slices.Sorted(maps.Keys(chains)) { // so that a seed's bits are the same again
		for i, rule := range chains[chain] {
			var places [][2]int // expression and byte
			for e, raw := range rule.exprs {
				if isCounter(raw) { // what it has counted is not part of a rule
					continue
				}
				for _, at := range leaves(raw, 0) {
					if !inAnonymousName(raw, at) {
						places = append(places, [2]int{e, at})
					}
				}
			}
			if len(places) == 0 {
				continue
			}
			want := lifted(rule.exprs, declared.byName, family)
			for range mutantsPerRule {
				at := places[random.IntN(len(places))]
				exprs := slices.Clone(rule.exprs)
				exprs[at[0]] = bytes.Clone(exprs[at[0]])
				bit := byte(1) << random.IntN(8)
				exprs[at[0]][at[1]] ^= bit
				if lifted(exprs, declared.byName, family) == want {
					s.fail(r, "chain %s rule %d: lifted as the same with bit 0x%x of byte %d flipped in expression %d, %q: %q", chain, i+1, bit, at[1], at[0]+1, rule.exprs[at[0]], want)
				}
				r.mutants++
			}
		}
	}
}

// inAnonymousName reports whether a byte is one of the name that the kernel gave to an
// anonymous set: another such set may hold the same.
func inAnonymousName(raw []byte, at int) bool {
	from := max(bytes.Index(raw, []byte("__set")), bytes.Index(raw, []byte("__map")))
	return from >= 0 && at >= from && bytes.IndexByte(raw[from:], 0) > at-from
}
