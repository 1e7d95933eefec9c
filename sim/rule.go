// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
)

// title names a chain in a message: another program may have named it.
func title(c *rules.Chain) string { return "chain " + escape.Text(c.Name) }

const noVerdict rules.VerdictKind = 0 // the packet goes on

// callBase runs a base chain; what comes to its end meets the policy.
func (w *walk) callBase(c baseChain) {
	w.table, w.family, w.base = c.Table, c.family, c.Chain
	if w.call(c.Chain, 0) == noVerdict && !w.ended && c.Base.Drop {
		w.effect, w.handsOn = w.effect[:0], false
		w.step(c.Chain, 0, "", "policy drop", rules.Drop())
		w.end(Dropped, "by the policy of %s", title(c.Chain))
	}
}

// call runs a chain. Accept ends the base chain; noVerdict goes back to where
// the chain was jumped to from.
func (w *walk) call(c *rules.Chain, depth int) rules.VerdictKind {
	if depth > len(w.names[w.table].chains) {
		w.end(Unknown, "%s is jumped to in a circle", title(c))
		return rules.AcceptKind
	}
	for i := range c.Rules {
		v := w.rule(c, i)
		if w.ended {
			return rules.AcceptKind
		}
		switch v.Kind {
		case noVerdict, rules.ContinueKind:
			continue
		case rules.AcceptKind:
			return rules.AcceptKind
		case rules.DropKind:
			w.end(Dropped, "by rule %d of %s", i+1, title(c))
			return rules.AcceptKind
		case rules.ReturnKind:
			return noVerdict
		}
		next := w.names[w.table].chains[v.Chain]
		if next == nil {
			w.end(Unknown, "chain %s does not exist", v.Chain)
			return rules.AcceptKind
		}
		if w.call(next, depth+1) == rules.AcceptKind {
			return rules.AcceptKind
		}
		if v.Kind == rules.GotoKind {
			return noVerdict
		}
	}
	return noVerdict
}

// rule runs one rule, until a node does not hold or says what is next. Continue
// goes on to the next node, as after a node without a verdict (nft_do_chain).
func (w *walk) rule(c *rules.Chain, at int) rules.Verdict {
	r := &c.Rules[at]
	w.effect, w.handsOn = w.effect[:0], false
	if w.rules++; w.rules > maxRules {
		w.end(Unknown, "the packet meets more than %d rules", maxRules)
		return rules.Verdict{}
	}
	var verdict rules.Verdict
	for _, n := range r.Nodes {
		var holds bool
		if verdict, holds = w.evaluate(n); !holds || verdict.Kind != noVerdict && verdict.Kind != rules.ContinueKind {
			break
		}
	}
	if w.ended && w.fate == Unknown {
		w.why = fmt.Sprintf("%s rule %d: %s", title(c), at+1, w.why)
	}
	if len(w.effect) > 0 {
		w.step(c, at+1, r.Reason, "", verdict)
	}
	return verdict
}

// maxRules bounds a journey: chains that jump to each other, which no kernel
// holds, have it end all the same.
const maxRules = 1 << 20

func (w *walk) step(c *rules.Chain, rule int, reason, does string, v rules.Verdict) {
	for i, e := range w.effect {
		if i > 0 {
			does += ", "
		}
		does += e
	}
	w.journey.Steps = append(w.journey.Steps, Step{Hook: w.hook, Family: w.family, Netdev: w.names[w.table].netdev, Table: w.table.Name, Chain: c.Name,
		Type: w.base.Base.Type, Priority: w.base.Base.Priority, Rule: rule, Reason: reason, Does: does, HandsOn: w.handsOn, Verdict: v})
}

// did notes what a node did.
func (w *walk) did(n rules.Node) { w.effect = append(w.effect, text(n)) }

// text is the node as nft writes it.
func text(n rules.Node) string { return rules.Rule{Nodes: []rules.Node{n}}.String() }

// evaluate walks one node: what it decides, and whether the rule goes on.
func (w *walk) evaluate(n rules.Node) (verdict rules.Verdict, holds bool) {
	switch n := n.(type) {
	case rules.Match:
		return w.match(n)
	case rules.VMap:
		return w.vmap(n)
	case rules.Verdict:
		w.did(n)
		return n, true
	case rules.Counter:
		return rules.Verdict{}, true
	case rules.Redirect:
		return w.redirect(n)
	case rules.SNAT:
		return w.snat(n)
	case rules.DNAT:
		return w.dnat(n)
	case rules.TProxy:
		return w.tproxy(n)
	case rules.Reject:
		return w.reject(n)
	case rules.Assign:
		return w.assign(n)
	case rules.Log:
		w.did(n)
		return rules.Verdict{}, true
	case rules.Dynset:
		return w.dynset(n)
	case rules.NoTrack:
		return w.noTrack(n)
	case rules.Opaque:
		w.end(Unknown, "holds %s, which the model does not know", escape.Text(n.Name))
		return rules.Verdict{}, false
	}
	w.end(Unknown, "holds a node of type %T, which is not evaluated", n)
	return rules.Verdict{}, false
}

func (w *walk) match(m rules.Match) (rules.Verdict, bool) {
	found, ok := w.find(m.Key, m.Mask, m.Set, m.Elements)
	return rules.Verdict{}, ok && (found != nil) != m.Negated
}

func (w *walk) vmap(v rules.VMap) (rules.Verdict, bool) {
	found, ok := w.find(v.Key, "", v.Map, v.Elements)
	if !ok || found == nil {
		return rules.Verdict{}, false
	}
	w.did(found.Verdict)
	return found.Verdict, true
}

// find reads a key, under a mask if there is one, and finds it in a declared set, or
// among elements where none is named.
func (w *walk) find(selectors []rules.Selector, mask rules.Bits, set string, elements []rules.Element) (found *rules.Element, ok bool) {
	var room [4]rules.Bits
	key, ok := w.key(selectors, room[:0])
	if !ok {
		return nil, false
	}
	if at := slices.Index(selectors, rules.Selector(rules.TCPFlags)); at >= 0 {
		return w.findFlags(key, at, mask, set, elements)
	}
	return w.findKey(key, mask, set, elements)
}

func (w *walk) findKey(key []rules.Bits, mask rules.Bits, set string, elements []rules.Element) (found *rules.Element, ok bool) {
	if mask != "" && len(key) == 1 {
		key[0] = key[0].And(mask)
	}
	if set != "" {
		return w.lookup(set, key)
	}
	return anyElement(elements, key), true
}

// lookup finds a key in a declared set, if the set is one that is known whole.
func (w *walk) lookup(set string, key []rules.Bits) (*rules.Element, bool) {
	x := w.names[w.table].sets[set]
	switch {
	case x == nil:
		w.end(Unknown, "set %s does not exist", set)
	case x.strange != "":
		w.end(Unknown, "set %s has %s", set, x.strange)
	case x.live && !x.dynamic && w.host.Assumes:
		w.end(Unknown, "what set %s holds changes at run time", set)
	default:
		if found := x.find(key); found != nil {
			return found, true
		}
		return anyElement(w.tracker.added[x], key), true
	}
	return nil, false
}
