// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"github.com/google/nftables/expr"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
)

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: data}
}

func (w *ruleWriter) match(m rules.Match) {
	w.settle(m.Key)
	switch {
	case m.Set != "":
		w.load(m.Key, m.Mask, w.sets[m.Set] != nil && w.sets[m.Set].Interval)
		w.lookup(&expr.Lookup{SetName: m.Set, Invert: m.Negated})
	case m.Anonymous():
		s := anonymousSet(m.Types(), m.Elements)
		w.load(m.Key, m.Mask, s.Interval)
		id := w.addAnonymous(w.where, s)
		w.lookup(&expr.Lookup{SetName: s.Name, SetID: id, Invert: m.Negated})
	default:
		w.held = nil
		w.compare(m)
	}
	w.known.learn(m)
}

// learn notes what the match settles for the rest of the rule.
func (k *known) learn(m rules.Match) {
	if len(m.Key) != 1 || m.Negated || m.Mask != "" || m.Set != "" || len(m.Elements) != 1 || !m.Elements[0].Key[0].Single() {
		return
	}
	value := m.Elements[0].Key[0].Lo
	switch m.Key[0] {
	case rules.L4Proto.Selector():
		k.proto = rules.Proto(value[0])
	case rules.NFProto.Selector():
		k.family = rules.Family(value[0])
	}
}

func anonymousSet(key []rules.DataType, elements []rules.Element) *rules.Set {
	s := &rules.Set{Key: key, Elements: elements}
	for _, e := range elements {
		for _, r := range e.Key {
			s.Interval = s.Interval || !r.Single()
		}
		s.Verdicts = s.Verdicts || e.Verdict.Kind != 0
	}
	if !s.Interval {
		s.Size = uint32(len(elements)) // of a known size, the kernel's set is a faster one
	}
	return s
}

// load loads a key for a lookup. Interval sets compare byte by byte, so a value
// in the machine's byte order is turned first. What the rule has loaded before it, unchanged,
// is not loaded again.
func (w *ruleWriter) load(key []rules.Selector, mask rules.Bits, interval bool) {
	held := w.held
	w.held = nil
	if mask == "" && !interval {
		w.held = key
	}
	offset, same := 0, true
	for i, s := range key {
		register := partRegister(offset)
		offset += nl.Align(s.Type().Len())
		if same = same && w.held != nil && i < len(held) && held[i] == s; same {
			continue
		}
		w.emit(load(s, register, 0))
		w.mask(s.Type(), mask)
		if interval {
			w.turn(s.Type(), register)
		}
	}
}

func (w *ruleWriter) turn(d rules.DataType, register uint32) {
	if d.HostOrder() {
		size := uint32(d.Len())
		w.emit(&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: size, Size: size})
	}
}

// mask keeps bits of the first register; concatenations have no masks.
func (w *ruleWriter) mask(d rules.DataType, mask rules.Bits) {
	if mask == "" {
		return
	}
	w.emit(&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(d.Len()),
		Mask: wire(d, mask), Xor: make([]byte, d.Len())})
}

func (w *ruleWriter) lookup(l *expr.Lookup) {
	l.SourceRegister = firstRegister
	w.emit(l)
}

// compare tests one value, prefix, wildcard or range.
func (w *ruleWriter) compare(m rules.Match) {
	s, r := m.Key[0], m.Elements[0].Key[0]
	d := s.Type()
	op := expr.CmpOpEq
	if m.Negated {
		op = expr.CmpOpNeq
	}
	bits, isPrefix := r.PrefixBits()
	wholeBytes := isPrefix && bits > 0 && bits%8 == 0
	isAddress := d == rules.IPDaddr.Type() || d == rules.IP6Daddr.Type()
	switch {
	case r.Single():
		w.emit(load(s, firstRegister, 0))
		w.mask(d, m.Mask)
		w.emit(&expr.Cmp{Op: op, Register: firstRegister, Data: wire(d, r.Lo)})
	case d == rules.IIfName.Type() && wholeBytes:
		w.emit(load(s, firstRegister, 0), &expr.Cmp{Op: op, Register: firstRegister, Data: []byte(r.Lo[:bits/8])})
	case isAddress && wholeBytes:
		w.emit(load(s, firstRegister, uint32(bits/8)), &expr.Cmp{Op: op, Register: firstRegister, Data: []byte(r.Lo[:bits/8])})
	case isAddress && isPrefix:
		w.emit(load(s, firstRegister, 0))
		w.mask(d, prefixMask(bits, d.Len()))
		w.emit(&expr.Cmp{Op: op, Register: firstRegister, Data: []byte(r.Lo)})
	default:
		w.emit(load(s, firstRegister, 0))
		w.turn(d, firstRegister)
		w.span(op, r)
	}
}

func prefixMask(bits, length int) rules.Bits {
	mask := make([]byte, length)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return rules.Bits(mask)
}

func (w *ruleWriter) span(op expr.CmpOp, r rules.Range) {
	if op == expr.CmpOpNeq {
		w.emit(&expr.Range{Op: op, Register: firstRegister, FromData: []byte(r.Lo), ToData: []byte(r.Hi)})
		return
	}
	w.emit(&expr.Cmp{Op: expr.CmpOpGte, Register: firstRegister, Data: []byte(r.Lo)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: firstRegister, Data: []byte(r.Hi)})
}

func (w *ruleWriter) vmap(v rules.VMap) {
	w.settle(v.Key)
	l := &expr.Lookup{SetName: v.Map, IsDestRegSet: true} // DestRegister 0 is the verdict
	interval := false
	if v.Map == "" {
		s := anonymousSet(v.Types(), v.Elements)
		interval = s.Interval
		l.SetID = w.addAnonymous(w.where, s)
		l.SetName = s.Name
	} else if s := w.sets[v.Map]; s != nil {
		interval = s.Interval
	}
	w.load(v.Key, "", interval)
	w.lookup(l)
}
