// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize    = 32      // datagrams that one system call carries
	maxDatagram  = 1 << 16 // more than UDP has room for
	udpHeader    = 8       // room before each, for the answers that are sent with their own
	controlRoom  = 64      // for the original destination of both families
	sockaddrIn   = unix.SizeofSockaddrInet4
	sockaddrIn6  = unix.SizeofSockaddrInet6
	ipOrigDst    = unix.IP_ORIGDSTADDR
	ipv6OrigDst  = unix.IPV6_ORIGDSTADDR
	datagramSlot = udpHeader + maxDatagram
)

// batch is datagrams that are received and sent on from one place in memory, by recvmmsg(2) and
// sendmmsg(2). Only batches at work have memory: a socket that waits for datagrams needs none.
type batch struct {
	headers [batchSize]mmsghdr
	iovecs  [batchSize]unix.Iovec
	names   [batchSize]unix.RawSockaddrInet6
	control [batchSize][controlRoom]byte
	data    [batchSize][datagramSlot]byte
}

// mmsghdr is struct mmsghdr of sys/socket.h.
type mmsghdr struct {
	unix.Msghdr
	size uint32
}

// batchPool is the batches of one listener and its flows. The zero value is ready to use.
type batchPool struct {
	free    sync.Pool
	waiting atomic.Int32 // batches that wait for room in a send buffer
}

// maxWaitingBatches bounds the memory of datagrams that wait for room.
const maxWaitingBatches = 64

func (p *batchPool) get() *batch {
	if b, ok := p.free.Get().(*batch); ok {
		return b
	}
	return new(batch)
}

func (p *batchPool) put(b *batch) { p.free.Put(b) }

// receive waits for datagrams and takes what there is of them, up to a batch, which the caller puts
// back. The errors are those of the descriptor and of recvmmsg(2).
func (p *batchPool) receive(conn syscall.RawConn) (b *batch, n int, err error) {
	var errno syscall.Errno
	err = conn.Read(func(fd uintptr) bool {
		b = p.get()
		n, errno = b.receive(fd)
		if errno == unix.EAGAIN || errno == unix.EINTR {
			p.put(b)
			b = nil
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return nil, 0, err
	case errno != 0:
		p.put(b)
		return nil, 0, errno
	}
	return b, n, nil
}

func (b *batch) receive(fd uintptr) (int, syscall.Errno) {
	for i := range b.headers {
		h := &b.headers[i]
		b.iovecs[i].Base = &b.data[i][udpHeader]
		b.iovecs[i].SetLen(maxDatagram)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = sockaddrIn6
		h.Iov = &b.iovecs[i]
		h.SetIovlen(1)
		h.Control = &b.control[i][0]
		h.SetControllen(controlRoom)
		h.Flags = 0
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// payload is a received datagram.
func (b *batch) payload(i int) []byte {
	return b.data[i][udpHeader : udpHeader+int(b.headers[i].size)]
}

// put makes text the datagram i.
func (b *batch) put(i int, text []byte) {
	b.headers[i].size = uint32(copy(b.data[i][udpHeader:], text))
}

// from is who sent a received datagram.
func (b *batch) from(i int) netip.AddrPort {
	return sockaddr(unsafe.Slice((*byte)(unsafe.Pointer(&b.names[i])), b.headers[i].Namelen))
}

// originalDst is where a received datagram was going, zero where the kernel does not say.
func (b *batch) originalDst(i int) netip.AddrPort {
	control := b.control[i][:b.headers[i].Controllen]
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return netip.AddrPort{}
		}
		if header.Level == unix.SOL_IP && header.Type == ipOrigDst || header.Level == unix.SOL_IPV6 && header.Type == ipv6OrigDst {
			return sockaddr(data)
		}
		control = rest
	}
	return netip.AddrPort{}
}

// sockaddr reads a struct sockaddr_in or sockaddr_in6.
func sockaddr(b []byte) netip.AddrPort {
	switch {
	case len(b) >= sockaddrIn6 && binary.NativeEndian.Uint16(b) == unix.AF_INET6:
		addr := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
		if index := binary.NativeEndian.Uint32(b[24:]); index != 0 {
			addr = addr.WithZone(zone(int(index)))
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[2:]))
	case len(b) >= sockaddrIn && binary.NativeEndian.Uint16(b) == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:]))
	}
	return netip.AddrPort{}
}
