// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNotEntered means that a network namespace cannot be entered, which takes
// CAP_SYS_ADMIN there and in the caller's user namespace.
var ErrNotEntered = errors.New("enter the network namespace")

// Inside calls do on a thread that is in the network namespace which the file
// descriptor names. The thread goes back to its own namespace or, if it cannot, ends
// with its goroutine. The error is ErrNotEntered.
func Inside(netns int, do func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(own)
		}
		if entered := unix.Setns(netns, unix.CLONE_NEWNET); entered != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("%w: %w", ErrNotEntered, entered)
			return
		}
		do()
		if err == nil && unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- nil
	}()
	return <-done
}

// Sibling opens a socket of a protocol in the network namespace that s is in.
func (s *Socket) Sibling(protocol int) (*Socket, error) {
	theirs, err := s.namespace()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	here, err := open(protocol)
	if err != nil {
		return nil, err
	}
	own, err := here.namespace()
	if err == nil {
		defer unix.Close(own)
		if sameFile(own, theirs) {
			return here, nil
		}
	}
	if err := Close(here); err != nil {
		return nil, err
	}
	sockets, err := Open(theirs, protocol)
	if err != nil {
		return nil, err
	}
	return sockets[0], nil
}

// Inside calls do on a thread in the network namespace that s is in.
func (s *Socket) Inside(do func()) error {
	fd, err := s.namespace()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		defer unix.Close(own)
		if sameFile(own, fd) {
			do()
			return nil
		}
	}
	return Inside(fd, do)
}

// namespace is a descriptor of the socket's network namespace. It takes
// CAP_NET_ADMIN there.
func (s *Socket) namespace() (int, error) {
	const siocgskns = 0x894c // SIOCGSKNS of linux/sockios.h
	fd, err := unix.IoctlRetInt(s.fd, siocgskns)
	return fd, os.NewSyscallError("ioctl", err)
}

func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}
