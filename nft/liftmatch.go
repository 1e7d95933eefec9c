// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"github.com/google/nftables/expr"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

func (l *lifter) cmp(a nl.Attributes) bool {
	o, ok := l.get(uint32(a.Number(unix.NFTA_CMP_SREG)))
	op := expr.CmpOp(a.Number(unix.NFTA_CMP_OP))
	data := dataValue(a.Take(unix.NFTA_CMP_DATA))
	if !ok || !a.AllTaken() || o.selector == 0 || len(data) == 0 || len(data) > o.length() || l.lower != nil && op != expr.CmpOpLte {
		return false
	}
	switch op {
	case expr.CmpOpEq, expr.CmpOpNeq:
		return l.equal(o, data, op == expr.CmpOpNeq)
	case expr.CmpOpGte:
		o.lower, l.lower = data, o
		return len(data) == o.length() && o.mask == nil && o.ordered()
	case expr.CmpOpLte:
		lo := o.lower
		if l.lower != o || len(data) != len(lo) {
			return false
		}
		l.lower = nil
		return l.matched(o, rules.Match{Elements: oneRange(rules.Range{Lo: o.value(lo), Hi: o.value(data)})})
	}
	return false
}

// ordered reports whether the kernel's comparison of bytes is one of values.
func (o *operand) ordered() bool { return o.turned || !o.selector.Type().HostOrder() }

func oneRange(r rules.Range) []rules.Element { return []rules.Element{{Key: []rules.Range{r}}} }

func (l *lifter) equal(o *operand, data []byte, negated bool) bool {
	d := o.selector.Type()
	m := rules.Match{Negated: negated}
	switch {
	case len(data) == d.Len() && o.mask == nil:
		m.Elements = oneRange(rules.Range{Lo: o.value(data), Hi: o.value(data)})
	case len(data) == d.Len():
		mask, plain := o.maskBits()
		if !plain || o.turned {
			return false
		}
		value := o.value(data)
		m.Mask, m.Elements = mask, oneRange(rules.Range{Lo: value, Hi: value})
	case len(data) == o.length() && o.mask == nil || d == rules.IIfName.Type() && o.mask == nil:
		// the first bytes alone: a prefix, or a wildcard
		full := rules.Bits(append(append([]byte{}, data...), make([]byte, d.Len()-len(data))...))
		m.Elements = oneRange(firstBits(full, len(data)*8))
	default:
		return false
	}
	return l.matched(o, m)
}

// firstBits is the range of all values that begin with the first bits of v.
func firstBits(v rules.Bits, bits int) rules.Range {
	hi := []byte(v)
	mask := prefixMask(bits, len(v))
	for i := range hi {
		hi[i] |= ^mask[i]
	}
	return rules.Range{Lo: v, Hi: rules.Bits(hi)}
}

func (l *lifter) matched(o *operand, m rules.Match) bool {
	if o.selector.Type() == rules.FibSaddr.Route().Type() && m.Elements[0].Key[0].Hi.Uint64() > uint64(rules.Exists) {
		return false // never so: what is read is 0 or 1
	}
	m.Key = []rules.Selector{o.selector}
	l.known.learn(m)
	return l.node(m)
}

func (l *lifter) span(a nl.Attributes) bool {
	o, ok := l.get(uint32(a.Number(unix.NFTA_RANGE_SREG)))
	op := a.Number(unix.NFTA_RANGE_OP)
	lo, hi := dataValue(a.Take(unix.NFTA_RANGE_FROM_DATA)), dataValue(a.Take(unix.NFTA_RANGE_TO_DATA))
	if !ok || !a.AllTaken() || op > unix.NFT_RANGE_NEQ || o.selector == 0 || o.mask != nil || !o.ordered() || len(lo) != o.selector.Type().Len() || len(hi) != len(lo) {
		return false
	}
	return l.matched(o, rules.Match{Negated: op == unix.NFT_RANGE_NEQ, Elements: oneRange(rules.Range{Lo: o.value(lo), Hi: o.value(hi)})})
}

func (l *lifter) lookup(a nl.Attributes) bool {
	name := a.Text(unix.NFTA_LOOKUP_SET)
	register := uint32(a.Number(unix.NFTA_LOOKUP_SREG))
	isMap := a.Has(unix.NFTA_LOOKUP_DREG)
	dreg := a.Number(unix.NFTA_LOOKUP_DREG)
	flags := a.Number(unix.NFTA_LOOKUP_FLAGS)
	a.Take(unix.NFTA_LOOKUP_SET_ID)
	set := l.sets[name]
	if !a.AllTaken() || flags&^unix.NFT_LOOKUP_F_INV != 0 || isMap && dreg != unix.NFT_REG_VERDICT || set == nil || isMap != set.Verdicts {
		return false
	}
	inline := set.Name == "" // an anonymous set: its elements are the rule's own
	key, mask, ok := l.key(register, set)
	if !ok || inline && set.Others != "" {
		return false
	}
	if isMap {
		v := rules.VMap{Key: key, Map: set.Name}
		if inline {
			v.Elements = set.Elements
		}
		return mask == "" && flags == 0 && l.node(v)
	}
	m := rules.Match{Key: key, Mask: mask, Negated: flags != 0, Set: set.Name}
	if inline {
		m.Elements = set.Elements
	}
	return l.node(m)
}

// key is the concatenation of selectors that a lookup in the set reads.
func (l *lifter) key(register uint32, set *rules.Set) (key []rules.Selector, mask rules.Bits, ok bool) {
	w, ok := word(register)
	for _, d := range set.Key {
		o, held := l.at(w)
		if !held || o.selector == 0 || o.selector.Type() != d || o.length() != d.Len() ||
			o.turned != (set.Interval && d.HostOrder()) || o.mask != nil && len(set.Key) > 1 {
			return nil, "", false
		}
		var plain bool
		if mask, plain = o.maskBits(); !plain {
			return nil, "", false
		}
		key = append(key, o.selector)
		w += nl.Align(d.Len()) / 4
	}
	return key, mask, ok && len(key) > 0
}
