// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"context"
	"os"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	shortMessage = 1024 // bytes, for one of many
	atOnce       = 64   // of them are received with one call
)

// mmsghdr is the kernel's struct of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// many is room for short messages that are received together.
type many struct {
	messages [atOnce]mmsghdr
	vectors  [atOnce]unix.Iovec
	senders  [atOnce]unix.RawSockaddrNetlink
	room     [atOnce][shortMessage]byte
}

func newMany() *many {
	m := &many{}
	for i := range m.messages {
		m.vectors[i].Base = &m.room[i][0]
		m.vectors[i].SetLen(shortMessage)
		h := &m.messages[i].header
		h.Iov, h.Name = &m.vectors[i], (*byte)(unsafe.Pointer(&m.senders[i]))
		h.SetIovlen(1)
	}
	return m
}

// ExecuteMany is [Socket.Execute] of a request with [netlink.Acknowledge] that many
// short messages answer, which are all there once it was sent. To receive them one by
// one takes a quarter longer.
func (s *Socket) ExecuteMany(ctx context.Context, m netlink.Message, visit func(netlink.Message) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.many == nil {
		s.many = newMany()
	}
	if s.Asked != nil {
		s.Asked(m)
	}
	m.Header.Sequence = s.Sequence(1)
	if err := s.Send(AppendMessage(nil, m.Header, m.Data)); err != nil {
		return err
	}
	a := answer{sequence: m.Header.Sequence, multi: true, visit: visit}
	for !a.ended {
		n, err := s.receiveMany()
		if err != nil {
			return err
		}
		for i := range n {
			if err := s.readOne(&a, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// receiveMany fills s.many with what is there, and reports how many messages that is.
func (s *Socket) receiveMany() (int, error) {
	for {
		for i := range s.many.messages {
			s.many.messages[i].header.Namelen = unix.SizeofSockaddrNetlink
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.many.messages[0])), atOnce,
			unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, opError("receive", os.ErrDeadlineExceeded)
		default:
			return 0, opError("receive", errno)
		}
	}
}

// readOne takes the message in that was received at a place.
func (s *Socket) readOne(a *answer, at int) error {
	m := &s.many.messages[at]
	if err := s.count(int(m.length)); err != nil {
		return err
	}
	if m.header.Namelen != unix.SizeofSockaddrNetlink || s.many.senders[at].Pid != 0 {
		return nil // another program's
	}
	if m.length > shortMessage {
		return ErrTruncated
	}
	return a.read(s.many.room[at][:m.length])
}
