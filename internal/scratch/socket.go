// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"context"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketOptions is what is asked of a socket before it is bound.
type socketOptions struct {
	reuse       bool   // SO_REUSEADDR
	mark        uint32 // SO_MARK, where it is not 0
	device      string // SO_BINDTODEVICE, where it is not ""
	transparent bool   // IP_TRANSPARENT: addresses that are not its own
	pktinfo     bool   // IP_PKTINFO: with each datagram, the address that it was sent to
	origdst     bool   // IP_RECVORIGDSTADDR: and the port, which tproxy leaves as it was
}

// control applies the options; it has the type of the Control fields of package net.
func (o socketOptions) control(network, _ string, raw syscall.RawConn) error {
	level, transparent, pktinfo, origdst := unix.SOL_IP, unix.IP_TRANSPARENT, unix.IP_PKTINFO, unix.IP_RECVORIGDSTADDR
	if network[len(network)-1] == '6' {
		level, transparent, pktinfo, origdst = unix.SOL_IPV6, unix.IPV6_TRANSPARENT, unix.IPV6_RECVPKTINFO, unix.IPV6_RECVORIGDSTADDR
	}
	return controlled(raw, func(fd int) error {
		if o.device != "" {
			if err := unix.BindToDevice(fd, o.device); err != nil {
				return os.NewSyscallError("set SO_BINDTODEVICE", err)
			}
		}
		for _, opt := range []struct {
			wanted        bool
			level, option int
			value         uint32
			name          string
		}{
			{o.reuse, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"},
			{o.mark != 0, unix.SOL_SOCKET, unix.SO_MARK, o.mark, "SO_MARK"},
			{o.transparent, level, transparent, 1, "IP_TRANSPARENT"},
			{o.pktinfo, level, pktinfo, 1, "IP_PKTINFO"},
			{o.origdst, level, origdst, 1, "IP_RECVORIGDSTADDR"},
		} {
			if !opt.wanted {
				continue
			}
			if err := unix.SetsockoptInt(fd, opt.level, opt.option, int(opt.value)); err != nil {
				return os.NewSyscallError("set "+opt.name, err)
			}
		}
		return nil
	})
}

// breakOff ends what is under way on a connection when ctx is done. Its result undoes that.
func breakOff(ctx context.Context, conn net.Conn) (stop func() bool) {
	// A deadline can be set on any open connection; on a closed one there is nothing left to end.
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// controlled runs f with the descriptor of a connection.
func controlled(raw syscall.RawConn, f func(fd int) error) error {
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
