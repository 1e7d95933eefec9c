// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"encoding/binary"
	"errors"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrShort means that a message or its attributes are cut short.
var ErrShort = errors.New("netlink: a message is cut short")

// AppendMessage appends a message as it is sent (struct nlmsghdr of
// linux/netlink.h), with its data in parts.
func AppendMessage(b []byte, h netlink.Header, data ...[]byte) []byte {
	length := unix.NLMSG_HDRLEN
	for _, d := range data {
		length += len(d)
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, uint16(h.Type))
	b = binary.NativeEndian.AppendUint16(b, uint16(h.Flags))
	b = binary.NativeEndian.AppendUint32(b, h.Sequence)
	b = binary.NativeEndian.AppendUint32(b, h.PID)
	for _, d := range data {
		b = append(b, d...)
	}
	return append(b, make([]byte, Align(length)-length)...)
}

// Next takes the first message off a part. Its data is the part's.
func Next(part []byte) (m netlink.Message, rest []byte, err error) {
	if len(part) < unix.NLMSG_HDRLEN {
		return m, nil, ErrShort
	}
	length := binary.NativeEndian.Uint32(part)
	if length < unix.NLMSG_HDRLEN || uint64(length) > uint64(len(part)) {
		return m, nil, ErrShort
	}
	m.Header = netlink.Header{
		Length:   length,
		Type:     netlink.HeaderType(binary.NativeEndian.Uint16(part[4:])),
		Flags:    netlink.HeaderFlags(binary.NativeEndian.Uint16(part[6:])),
		Sequence: binary.NativeEndian.Uint32(part[8:]),
		PID:      binary.NativeEndian.Uint32(part[12:]),
	}
	m.Data = part[unix.NLMSG_HDRLEN:length:length]
	return m, part[min(Align(int(length)), len(part)):], nil
}
