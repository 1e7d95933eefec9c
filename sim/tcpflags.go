// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// everyTCPFlag are all bits of the flags byte of a TCP header.
const everyTCPFlag rules.TCPFlag = 0xff

// flags are the TCP flags that the packet has by its turn, and which of the bits are
// known. Whether the ends speak of congestion (RFC 3168) is not, nor which of the
// later packets pushes or closes.
func (p *Packet) flags() (set, known rules.TCPFlag) {
	const congestion = rules.ECN | rules.CWR
	turn := p.Turn
	switch {
	case p.State == rules.CTInvalid:
		return 0, 0 // any packet may be, a bare SYN too
	case p.State == rules.CTEstablished && turn == Opens:
		turn = Continues
	}
	switch turn {
	case Opens:
		return rules.SYN, everyTCPFlag &^ congestion
	case Answers:
		return rules.SYN | rules.ACK, everyTCPFlag &^ congestion
	}
	return rules.ACK, rules.SYN | rules.RST | rules.ACK
}

// findFlags finds a key whose part at that place is the packet's TCP flags. Where
// bits that are not known decide, so is what the rule does.
func (w *walk) findFlags(key []rules.Bits, at int, mask rules.Bits, set string, elements []rules.Element) (*rules.Element, bool) {
	flags, known := w.packet.flags()
	open := everyTCPFlag &^ known
	if len(key) == 1 && mask != "" {
		open &= rules.TCPFlag(mask.Uint64())
	}
	first, ok := w.findKey(slices.Clone(key), mask, set, elements)
	for bits := open; ok && bits != 0; bits = (bits - 1) & open { // every subset of them but none
		with := slices.Clone(key)
		with[at] = rules.RangeOf(flags | bits).Lo
		if other, _ := w.findKey(with, mask, set, elements); !sameOutcome(first, other) {
			w.end(Unknown, "which of the flags %s the packet has", rules.TCPFlags.Type().Format(rules.RangeOf(open).Lo))
			return nil, false
		}
	}
	return first, ok
}

// sameOutcome reports whether a rule does the same with either element.
func sameOutcome(a, b *rules.Element) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Verdict == b.Verdict)
}
