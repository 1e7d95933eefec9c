// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FuzzOriginalDst has control messages of any kind before that of the original destination, which is
// found as it was written; and any bytes in its place.
func FuzzOriginalDst(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1}, uint16(443), []byte{1, 2, 3}, false)
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice(), uint16(53), []byte{}, false)
	f.Add([]byte{0, 0, 0, 0}, uint16(0), []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0}, true)
	b := new(batch)
	f.Fuzz(func(t *testing.T, address []byte, port uint16, other []byte, raw bool) {
		if raw {
			b.headers[0].SetControllen(copy(b.control[0][:], other))
			b.originalDst(0) // must end
			sockaddr(other)
			return
		}
		addr, ok := netip.AddrFromSlice(address)
		if !ok || addr.Is4In6() {
			return
		}
		var message []byte
		if len(other) <= 8 {
			message = controlMessage(unix.SOL_SOCKET, unix.SCM_TIMESTAMP, other)
		}
		want := netip.AddrPortFrom(addr, port)
		if addr.Is4() {
			data := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
			data = append(binary.BigEndian.AppendUint16(data, port), address...)
			message = append(message, controlMessage(unix.SOL_IP, unix.IP_ORIGDSTADDR, append(data, make([]byte, 8)...))...)
		} else {
			data := binary.NativeEndian.AppendUint16(nil, unix.AF_INET6)
			data = append(binary.BigEndian.AppendUint16(data, port), 0, 0, 0, 0)
			message = append(message, controlMessage(unix.SOL_IPV6, unix.IPV6_ORIGDSTADDR, append(append(data, address...), 0, 0, 0, 0))...)
		}
		b.headers[0].SetControllen(copy(b.control[0][:], message))
		if len(message) > controlRoom {
			return
		}
		if got := b.originalDst(0); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// controlMessage is a struct cmsghdr and its data (cmsg(3)).
func controlMessage(level, kind int32, data []byte) []byte {
	out := make([]byte, unix.CmsgSpace(len(data)))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&out[0]))
	header.Level, header.Type = level, kind
	header.SetLen(unix.CmsgLen(len(data)))
	copy(out[unix.CmsgLen(0):], data)
	return out
}
