// SPDX-License-Identifier: Apache-2.0

package sim

import "github.com/weir-mesh/weir/rules"

// dynset adds an element for later lookups, of this packet and of those that the tracker
// will see. Time does not pass: none runs out. Where the set is full the rule ends
// (nft_dynset_eval).
func (w *walk) dynset(n rules.Dynset) (rules.Verdict, bool) {
	key, ok := w.key(n.Key, nil)
	if !ok {
		return rules.Verdict{}, false
	}
	found, known := w.lookup(n.Set, key)
	if !known {
		return rules.Verdict{}, false
	}
	if found == nil {
		x := w.names[w.table].sets[n.Set]
		if held := len(x.elements) + len(w.tracker.added[x]); x.size > 0 && held >= x.size {
			w.kernel("%s is full: the rule ends", n.Set)
			return rules.Verdict{}, false
		}
		w.tracker.add(x, key)
	}
	w.did(n)
	return rules.Verdict{}, true
}

func (t *Tracker) add(to *index, key []rules.Bits) {
	if t.added == nil {
		t.added = map[*index][]rules.Element{}
	}
	var e rules.Element
	for _, v := range key {
		e.Key = append(e.Key, rules.Range{Lo: v, Hi: v})
	}
	t.added[to] = append(t.added[to], e)
}
