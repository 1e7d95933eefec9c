// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

// listenAlone listens on a port that no other process has. Without SO_REUSEADDR the
// kernel refuses a port that a proxy has bound and does not listen on yet, so that no
// proxy finds its port taken.
func listenAlone(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) })
		return errors.Join(err, failed)
	}}
	lc.SetMultipathTCP(false) // which cannot be asked for the original destination
	ln, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// bindAlone takes an address and port, and does not listen there.
func bindAlone(at netip.AddrPort) (fd int, err error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// accept tells where each connection was going, until the listener is closed. It
// resets them: the end of a connection would keep the proxy from its port for a
// minute.
func accept(ctx context.Context, ln *net.TCPListener, landed chan<- netip.AddrPort) {
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		dst, err := proxy.OriginalDst(conn)
		_ = conn.SetLinger(0)
		conn.Close()
		if err != nil {
			continue
		}
		select {
		case landed <- dst:
		case <-ctx.Done():
			return
		}
	}
}
