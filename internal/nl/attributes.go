// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// AttributeHeader is the length of struct nlattr of linux/netlink.h, in bytes.
const AttributeHeader = 4

// Attributes are the attributes of one object. Take marks the one that it reads, so
// that attributes which were not read can be told. Where a type comes more than once, each Take
// reads the next.
type Attributes []Attribute

// Attribute is one of them.
type Attribute struct {
	Data  []byte
	Type  uint16
	taken bool
}

// Decode splits attributes. Their values are parts of b.
func Decode(b []byte) (Attributes, error) {
	count := 0
	_ = Walk(b, func(uint16, []byte) { count++ }) // the second says it again
	a := make(Attributes, 0, count)
	err := Walk(b, func(typ uint16, data []byte) { a = append(a, Attribute{Type: typ, Data: data}) })
	return a, err
}

// Walk visits each attribute, without the flags of its type. Elements of sets come by
// the ten thousand: it copies nothing.
func Walk(b []byte, visit func(typ uint16, data []byte)) error {
	for len(b) > 0 {
		data, rest, err := First(b)
		if err != nil {
			return err
		}
		visit(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), data)
		b = rest
	}
	return nil
}

// First is the data of the first attribute, and what follows it.
func First(b []byte) (data, rest []byte, err error) {
	if len(b) < AttributeHeader {
		return nil, nil, ErrShort
	}
	length := int(binary.NativeEndian.Uint16(b))
	if length < AttributeHeader || length > len(b) {
		return nil, nil, ErrShort
	}
	return b[AttributeHeader:length], b[min(Align(length), len(b)):], nil
}

// Align is where an object of n bytes ends with its padding.
func Align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

func (a Attributes) find(typ uint16) int {
	return slices.IndexFunc(a, func(one Attribute) bool { return one.Type == typ && !one.taken })
}

// Take is the value of an attribute, nil where there is none that was not taken.
func (a Attributes) Take(typ uint16) []byte {
	i := a.find(typ)
	if i < 0 {
		return nil
	}
	a[i].taken = true
	return a[i].Data
}

// Has reports whether there is an attribute that was not taken.
func (a Attributes) Has(typ uint16) bool { return a.find(typ) >= 0 }

// AllTaken reports whether every attribute was taken.
func (a Attributes) AllTaken() bool {
	return !slices.ContainsFunc(a, func(one Attribute) bool { return !one.taken })
}

// Number takes a big-endian number, as nf_tables has them; 0 where there is none.
func (a Attributes) Number(typ uint16) uint64 { return BigEndian(a.Take(typ)) }

// Native32 takes a number of 32 bits in the machine's byte order, as rtnetlink has
// them; 0 where there is none.
func (a Attributes) Native32(typ uint16) uint32 { return Native32(a.Take(typ)) }

// Text takes a string; "" where there is none.
func (a Attributes) Text(typ uint16) string { return Text(a.Take(typ)) }

// BigEndian is a number of up to 8 bytes, most significant first; 0 of no bytes.
func BigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// Native32 is a number of 32 bits in the machine's byte order; 0 of another length.
func Native32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// Text is a string up to its NUL, or all of it without one.
func Text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
