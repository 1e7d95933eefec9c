// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package nl is netlink as the kernel's own subsystems speak it: requests, their
// answers and dumps, over a blocking socket. It knows nothing of what the
// messages mean.
//
// A dump is read in parts as large as a kernel makes them, for it finds the
// place where a part begins by walking from the start: small parts cost by the
// square of their number.
package nl

import (
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Socket is a netlink socket. One goroutine at a time may use it.
type Socket struct {
	// Asked is told of each request, unless it is nil: what a verb costs is what it
	// asks for.
	Asked func(netlink.Message)

	fd       int
	seq      uint32
	part     []byte
	many     *many
	limit    int  // bytes that may still be received, 0 for any number
	over     bool // they were
	halfRead bool // a dump was given up: the kernel begins no other before its end
}

// Open opens a socket of each protocol in the calling thread's network namespace
// or, where netns is not 0, in the one that the file descriptor names.
func Open(netns int, protocols ...int) (sockets []*Socket, err error) {
	open := func() {
		for _, p := range protocols {
			var s *Socket
			if s, err = open(p); err != nil {
				err = errors.Join(err, Close(sockets...))
				return
			}
			sockets = append(sockets, s)
		}
	}
	if netns == 0 {
		open()
		return sockets, err
	}
	if entered := Inside(netns, open); entered != nil {
		return nil, entered
	}
	return sockets, err
}

// Close closes sockets.
func Close(sockets ...*Socket) error {
	var errs []error
	for _, s := range sockets {
		errs = append(errs, os.NewSyscallError("close", unix.Close(s.fd)))
	}
	return errors.Join(errs...)
}

func open(protocol int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &Socket{fd: fd}
	wait := unix.NsecToTimeval(int64(partTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, errors.Join(os.NewSyscallError("setsockopt", err), Close(s))
	}
	return s, nil
}

// SetOption switches a socket option of SOL_NETLINK on.
func (s *Socket) SetOption(option int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1))
}

// GrowSendBuffer makes room for a message of that many bytes, which must go out
// in one piece. Without CAP_NET_ADMIN in the initial user namespace the limit of
// net.core.wmem_max stays.
func (s *Socket) GrowSendBuffer(size int) error {
	have, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err == nil && size >= have/2 {
		if err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size); errors.Is(err, unix.EPERM) {
			err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
		}
	}
	if err != nil {
		return fmt.Errorf("netlink: a send buffer of %d bytes: %w", size, err)
	}
	return nil
}

// Limit bounds how many bytes the socket receives from now on, however often it is
// asked: who reads what others made bounds the work.
func (s *Socket) Limit(bytes int) { s.limit, s.over = bytes, false }

// Send sends messages in one piece, as they are.
func (s *Socket) Send(messages []byte) error {
	for {
		_, err := unix.Write(s.fd, messages)
		if err == unix.EINTR {
			continue
		}
		return opError("send", err)
	}
}

// Sequence sets numbers aside for so many messages, and is the first of them.
func (s *Socket) Sequence(messages int) uint32 {
	first := s.seq + 1
	s.seq += uint32(messages)
	return first
}

func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &netlink.OpError{Op: op, Err: err}
}

// Port is the socket's port id, by which the kernel names who sent a message.
func (s *Socket) Port() (uint32, error) {
	address, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	own, ok := address.(*unix.SockaddrNetlink)
	if !ok {
		return 0, errors.New("netlink: the socket has no port")
	}
	return own.Pid, nil
}

// Room makes room for as many bytes that are not read yet as the system allows, up to room.
func (s *Socket) Room(room int) error {
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) == nil {
		return nil
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room))
}

// Expect makes room for parts of that many bytes at once, where the kernel sends larger ones unasked: [Socket.Receive]
// makes more room for them by itself, and loses the first.
func (s *Socket) Expect(bytes int) { s.part = make([]byte, bytes) }

// Join has the socket receive what a group is told, with [Socket.Room] for it.
func (s *Socket) Join(group, room int) error {
	if err := s.Room(room); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
}
