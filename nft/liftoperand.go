// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

const registerWords = 16 // NFT_REG32_00 to NFT_REG32_15

// operand is what a register holds.
type operand struct {
	selector  rules.Selector // 0: the constant
	constant  []byte
	bytes     uint32 // of a payload: how many of the first bytes
	mask, xor []byte
	turned    bool // in network byte order by a byteorder expression
	word      int  // the first 32-bit word that it is in
	lower     []byte
	used      bool
	from      expression
	order     int // of that among the expressions
}

// word is the index of the first 32-bit word of a register.
func word(register uint32) (int, bool) {
	switch {
	case register >= unix.NFT_REG_1 && register <= unix.NFT_REG_4:
		return int(register-unix.NFT_REG_1) * 4, true
	case register >= unix.NFT_REG32_00 && register <= unix.NFT_REG32_15:
		return int(register - unix.NFT_REG32_00), true
	}
	return 0, false
}

func (l *lifter) set(register uint32, o *operand) bool {
	w, ok := word(register)
	words := nl.Align(o.length()) / 4
	if !ok || words == 0 || w+words > registerWords {
		return false
	}
	o.word, o.order = w, l.read
	for i := range words {
		l.registers[w+i] = o
	}
	l.loads = append(l.loads, o)
	return true
}

// get is what a register holds, and false where that begins elsewhere or was
// written over in part.
func (l *lifter) get(register uint32) (*operand, bool) {
	w, ok := word(register)
	if !ok {
		return nil, false
	}
	return l.at(w)
}

func (l *lifter) at(w int) (*operand, bool) {
	if w >= registerWords || l.registers[w] == nil || l.registers[w].word != w {
		return nil, false
	}
	o := l.registers[w]
	for i := range nl.Align(o.length()) / 4 {
		if l.registers[w+i] != o {
			return nil, false
		}
	}
	o.used = true
	return o, true
}

func (o *operand) length() int {
	switch {
	case o.selector == 0:
		return len(o.constant)
	case o.bytes > 0:
		return int(o.bytes)
	}
	return o.selector.Type().Len()
}

// value is a constant that is compared with the operand, most significant byte
// first.
func (o *operand) value(data []byte) rules.Bits {
	if o.turned {
		return rules.Bits(data)
	}
	return unwire(o.selector.Type(), data)
}

func (o *operand) maskBits() (rules.Bits, bool) {
	if o.mask == nil {
		return "", allZeros(o.xor)
	}
	return unwire(o.selector.Type(), o.mask), allZeros(o.xor)
}
