// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// room is how many bytes of notifications may wait: a node's pods that all start at once make a tenth of it.
const room = 8 << 20

// Ports are the sockets' own. One that the kernel chooses is the process's ID, and so is that of its sockets in
// other namespaces: a notification is not sent to a socket of the port that made the change
// (nlmsg_notify of net/netlink/af_netlink.c), whatever its namespace.
const (
	nftPort   = 0xf0001234
	routePort = 0xf0001235
	portTries = 64 // others may have taken some
)

// socket is a netlink socket that hears every namespace.
type socket struct {
	file *os.File
	raw  interface {
		Read(func(fd uintptr) bool) error
	}
}

func listen(protocol int, port uint32, groups ...int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := prepare(fd, port, groups); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &socket{file: os.NewFile(uintptr(fd), "netlink")}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

func prepare(fd int, port uint32, groups []int) error {
	err := unix.EADDRINUSE
	var failed error = err
	for i := uint32(0); i < portTries && errors.Is(failed, unix.EADDRINUSE); i++ {
		failed = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port + i<<16})
	}
	if failed != nil {
		return os.NewSyscallError("bind", failed)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		return fmt.Errorf("hear other network namespaces: %w (this needs CAP_NET_BROADCAST)", err)
	}
	for _, group := range groups { // after bind, which clears them
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			return fmt.Errorf("hear changes of rules and routing: %w (this needs CAP_NET_ADMIN)", err)
		}
	}
	return nil
}

func (s *socket) close() { s.file.Close() }

// receive waits for the next datagram, into the buffer. An error that matches unix.ENOBUFS is that some were
// lost; the socket goes on.
func (s *socket) receive(into []byte) (part []byte, id ID, err error) {
	var control [64]byte
	id = Own
	waited := s.raw.Read(func(fd uintptr) bool {
		n, controls, flags, _, failed := unix.Recvmsg(int(fd), into, control[:], unix.MSG_DONTWAIT)
		switch {
		case failed == unix.EAGAIN:
			return false
		case failed != nil:
			err = failed
			return true
		case flags&unix.MSG_TRUNC != 0:
			err = unix.ENOBUFS
			return true
		}
		part = into[:n]
		if found, is := namespaceOf(control[:controls]); is {
			id = found
		}
		return true
	})
	if waited != nil {
		return nil, Own, waited
	}
	return part, id, err
}

// namespaceOf is the id in a datagram's control messages; none of what the own namespace is told.
func namespaceOf(control []byte) (ID, bool) {
	for len(control) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0, false
		}
		if header.Level == unix.SOL_NETLINK && header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(data) >= 4 {
			return ID(int32(binary.NativeEndian.Uint32(data))), true
		}
		control = rest
	}
	return 0, false
}
