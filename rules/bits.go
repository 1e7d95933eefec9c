// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
)

// Bits is a value as a register of the kernel would hold it, most significant
// byte first whatever the selector's own byte order, so that Bits of one
// length sort as the values do. A string, to be comparable.
type Bits string

// Range is every value from Lo to Hi, both included, both of one length. A
// single value is a Range whose ends are equal; so are prefixes and
// interface-name wildcards ranges.
type Range struct{ Lo, Hi Bits }

// Single reports whether the range holds one value only.
func (r Range) Single() bool { return r.Lo == r.Hi }

// RangeOf is the range of values that v stands for: more than one where v is a
// prefix or a wildcard.
func RangeOf[T Value](v T) Range {
	switch v := any(v).(type) {
	case Port:
		return single(number(uint64(v), 2))
	case Zone:
		return single(number(uint64(v), 2))
	case Proto:
		return single(number(uint64(v), 1))
	case Family:
		return single(number(uint64(v), 1))
	case TCPFlag:
		return single(number(uint64(v), 1))
	case bool:
		if v {
			return single("\x01")
		}
		return single("\x00")
	case UID:
		return single(number(uint64(v), 4))
	case GID:
		return single(number(uint64(v), 4))
	case Mark:
		return single(number(uint64(v), 4))
	case Presence:
		return single(number(uint64(v), 4))
	case AddrType:
		return single(number(uint64(v), 4))
	case CTState:
		return single(number(uint64(v), 4))
	case IfIndex:
		return single(number(uint64(v), 4))
	case CgroupID:
		return single(number(uint64(v), 8))
	case Raw:
		return single(Bits(v))
	case IfName:
		return nameSpan(string(v))
	case netip.Prefix:
		return prefixSpan(v)
	}
	panic("rules: a Value without a span") // unreachable: the type set above is closed
}

// RangeBetween is every value from the first that lo stands for to the last that hi
// does.
func RangeBetween[T Value](lo, hi T) Range { return Range{RangeOf(lo).Lo, RangeOf(hi).Hi} }

func single(b Bits) Range { return Range{b, b} }

func number(v uint64, length int) Bits {
	b := binary.BigEndian.AppendUint64(nil, v)
	return Bits(b[8-length:])
}

// Uint64 is the value as a number; of more than 8 bytes, that of the last 8.
func (b Bits) Uint64() uint64 {
	b = b[max(len(b)-8, 0):]
	var full [8]byte
	copy(full[8-len(b):], b)
	return binary.BigEndian.Uint64(full[:])
}

// And is the bits that both have, of two values of one length.
func (b Bits) And(mask Bits) Bits {
	out := []byte(b)
	for i := range min(len(out), len(mask)) {
		out[i] &= mask[i]
	}
	return Bits(out)
}

// Xor is the bits that one of both has, of two values of one length.
func (b Bits) Xor(with Bits) Bits {
	out := []byte(b)
	for i := range min(len(out), len(with)) {
		out[i] ^= with[i]
	}
	return Bits(out)
}

// under reports whether b is as long as the mask and has no bit outside of it.
func (b Bits) under(mask Bits) bool {
	if len(b) != len(mask) {
		return false
	}
	for i := range len(b) {
		if b[i]&^mask[i] != 0 {
			return false
		}
	}
	return true
}

const ifNameSize = 16 // IFNAMSIZ of linux/if.h

func nameSpan(name string) Range {
	stem, wild := strings.CutSuffix(name, "*")
	stem = stem[:min(len(stem), ifNameSize)]
	lo := Bits(stem) + zeros(ifNameSize-len(stem))
	if !wild {
		return single(lo)
	}
	return Range{lo, Bits(stem) + ones(ifNameSize-len(stem))}
}

func prefixSpan(p netip.Prefix) Range {
	p = p.Masked()
	if !p.IsValid() {
		return Range{}
	}
	lo := p.Addr().AsSlice()
	hi := bytes.Clone(lo)
	for bit := p.Bits(); bit < len(hi)*8; bit++ {
		hi[bit/8] |= 0x80 >> (bit % 8)
	}
	return Range{Bits(lo), Bits(hi)}
}

func zeros(n int) Bits { return Bits(strings.Repeat("\x00", n)) }

func ones(n int) Bits { return Bits(strings.Repeat("\xff", n)) }

// next is b plus one, and false where b is the last value of its length.
func (b Bits) next() (Bits, bool) {
	c := []byte(b)
	for i := len(c) - 1; i >= 0; i-- {
		c[i]++
		if c[i] != 0 {
			return Bits(c), true
		}
	}
	return "", false
}

// After is the value that follows the range, and false where none does: how an
// interval set of the kernel names the end of an element.
func (r Range) After() (Bits, bool) { return r.Hi.next() }

// Before is the value that comes before b. It must not be the first.
func (b Bits) Before() Bits {
	c := []byte(b)
	for i := len(c) - 1; i >= 0; i-- {
		c[i]--
		if c[i] != 0xff {
			break
		}
	}
	return Bits(c)
}

// PrefixBits is the length of the prefix that covers exactly the range, and
// false where none does.
func (r Range) PrefixBits() (int, bool) {
	if len(r.Lo) != len(r.Hi) {
		return 0, false
	}
	n := 0
	for n < len(r.Lo)*8 && r.Lo[n/8]&(0x80>>(n%8)) == r.Hi[n/8]&(0x80>>(n%8)) {
		n++
	}
	for i := n; i < len(r.Lo)*8; i++ {
		bit := byte(0x80 >> (i % 8))
		if r.Lo[i/8]&bit != 0 || r.Hi[i/8]&bit == 0 {
			return 0, false
		}
	}
	return n, true
}
