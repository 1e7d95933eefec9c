// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A datagramSender is a socket that datagrams leave by.
type datagramSender struct {
	conn syscall.RawConn
	to   []byte     // a sockaddr; nil where the socket is connected
	wait *batchPool // of which one may wait for room in its send buffer; nil: what finds none is dropped

	// header, of a raw socket, writes the UDP header in the room before the payload.
	header  func(headerAndPayload []byte)
	control []byte // of a socket that is bound to no address: which one datagrams leave from
}

// send sends the datagrams from i on and before end, and returns how many and how many bytes left. One
// that cannot leave, for its size or its route, does not keep the others.
func (b *batch) send(s datagramSender, i, end int) (sent int, size int64) {
	for k := i; k < end; k++ {
		b.prepare(k, s)
	}
	refused := false
	for i < end {
		n, errno := b.sendSome(s, i, end)
		for k := i; k < i+n; k++ {
			size += int64(len(b.payload(k)))
		}
		i += n
		sent += n
		switch {
		case errno == 0:
			refused = false
		case errno == unix.ECONNREFUSED && !refused:
			refused = true // the answer to an earlier one, after which this one can be sent
		case errno == unix.EAGAIN || errno == unix.EBADF:
			return sent, size // no room, or closed
		default:
			i++
			refused = false
		}
	}
	return sent, size
}

func (b *batch) prepare(i int, s datagramSender) {
	h, size := &b.headers[i], int(b.headers[i].size)
	b.iovecs[i].Base = &b.data[i][udpHeader]
	b.iovecs[i].SetLen(size)
	if s.header != nil {
		s.header(b.data[i][:udpHeader+size])
		b.iovecs[i].Base = &b.data[i][0]
		b.iovecs[i].SetLen(udpHeader + size)
	}
	h.Iov = &b.iovecs[i]
	h.SetIovlen(1)
	h.Control, h.Controllen = nil, 0
	if len(s.control) > 0 {
		h.Control = &s.control[0]
		h.SetControllen(len(s.control))
	}
	h.Flags = 0
	h.Name, h.Namelen = nil, 0
	if len(s.to) > 0 {
		h.Name, h.Namelen = &s.to[0], uint32(len(s.to))
	}
}

// sendSome sends what the kernel takes in one call.
func (b *batch) sendSome(s datagramSender, i, end int) (int, syscall.Errno) {
	var n uintptr
	var errno syscall.Errno
	sizes := [batchSize]uint32{} // the kernel writes over them
	for k := i; k < end; k++ {
		sizes[k] = b.headers[k].size
	}
	wait := false
	if s.wait != nil {
		wait = s.wait.waiting.Add(1) <= maxWaitingBatches
		defer s.wait.waiting.Add(-1)
	}
	err := s.conn.Write(func(fd uintptr) bool {
		n, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.headers[i])), uintptr(end-i), unix.MSG_DONTWAIT, 0, 0)
		return errno != unix.EINTR && (errno != unix.EAGAIN || !wait)
	})
	for k := i; k < end; k++ {
		b.headers[k].size = sizes[k]
	}
	switch {
	case err != nil: // closed meanwhile
		return 0, unix.EBADF
	case errno != 0:
		return 0, errno
	}
	return int(n), 0
}

// sockaddrOf is an address as the kernel reads it.
func sockaddrOf(a netip.AddrPort) []byte {
	if a.Addr().Is4() {
		b := make([]byte, sockaddrIn)
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], a.Port())
		copy(b[4:], a.Addr().AsSlice())
		return b
	}
	b := make([]byte, sockaddrIn6)
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	binary.BigEndian.PutUint16(b[2:], a.Port())
	copy(b[8:], a.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[24:], zoneIndex(a.Addr()))
	return b
}
