// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// connect(2) tries one port after the other, those of one parity first, until it finds one that has
// no connection to the destination. Where half of the ports are in TIME_WAIT, that is a walk of some
// 14,000 ports for each connection. A socket with a range of its own walks no further than that.
const (
	portRange    = 512
	rangeTries   = 3 // with ranges, before all ports are searched
	firstPort    = 32768
	lastPort     = 60999 // of net.ipv4.ip_local_port_range by default; outside of it a range is ignored
	rangeStarts  = lastPort - firstPort - portRange + 2
	hiPortsShift = 16 // of the value of IP_LOCAL_PORT_RANGE
)

// dialFrom connects from source, or from an address that the kernel chooses where there is none.
func dialFrom(ctx context.Context, source netip.Addr, dst netip.AddrPort, options SocketOptions) (*net.TCPConn, error) {
	for try := 0; ; try++ {
		dialer := net.Dialer{KeepAlive: -1, Control: func(network, address string, raw syscall.RawConn) error {
			return errors.Join(options.Control(network, address, raw), choosePort(raw, source.IsValid(), try < rangeTries))
		}}
		if source.IsValid() {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
		conn, err := dialer.DialContext(ctx, "tcp", dst.String())
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if try == rangeTries || !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil, err
		}
	}
}

// choosePort says how the kernel is to choose the source port.
func choosePort(raw syscall.RawConn, bound, inRange bool) error {
	var sockErr error
	err := raw.Control(func(fd uintptr) {
		if inRange {
			start := firstPort + rand.N(rangeStarts)
			// Linux 6.3; without it the search is as long as it is.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, (start+portRange-1)<<hiPortsShift|start)
		}
		if bound {
			// Lets one source port serve many destinations: without it bind(2) takes the port for
			// itself, and one address has no more than some 28,000 of them.
			option := socketOption{level: unix.SOL_IP, number: unix.IP_BIND_ADDRESS_NO_PORT, name: "IP_BIND_ADDRESS_NO_PORT"}
			sockErr = option.set(int(fd), 1)
		}
	})
	return errors.Join(err, sockErr)
}
