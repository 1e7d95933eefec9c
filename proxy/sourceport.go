// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// connect(2) tries one port after the other, those of one parity first, until it finds one that has
// no connection to the destination. Where half of the ports are in TIME_WAIT, that is a walk of some
// 14,000 ports for each connection. A socket with a range of its own walks no further than that.
const (
	portRange    = 512
	firstPort    = 32768
	lastPort     = 60999 // of net.ipv4.ip_local_port_range by default; outside of it a range is ignored
	rangeStarts  = lastPort - firstPort - portRange + 2
	hiPortsShift = 16 // of the value of IP_LOCAL_PORT_RANGE
)

// A port that the socket is bound to is one that connect(2) takes though it is in TIME_WAIT to the
// same destination (tcp_twsk_unique of net/ipv4/tcp_ipv4.c), if both ends have timestamps. Programs
// that leave the choice to the kernel are given no such port while it is in use, so that only a part
// of the ports is used like that.
const (
	rangeTries  = 2
	reuseTries  = 32
	reusedPorts = 4 // one in so many, the last ones
)

// dialFrom connects from source, or from an address that the kernel chooses where there is none.
func dialFrom(ctx context.Context, source netip.Addr, dst netip.AddrPort, control func(network, address string, c syscall.RawConn) error) (*net.TCPConn, error) {
	var first, last int // of the ports that are used again, once they are asked for
	for try := 0; ; try++ {
		choice := portChoice{bound: source.IsValid(), inRange: try < rangeTries}
		if reuse := try - rangeTries; reuse == 0 {
			first, last = portsToReuse()
		}
		if try >= rangeTries && try < rangeTries+reuseTries && first > 0 {
			choice.port = first + rand.N(last-first+1)
		}
		dialer := net.Dialer{KeepAlive: -1, Control: func(network, address string, raw syscall.RawConn) error {
			return errors.Join(control(network, address, raw), choice.set(raw))
		}}
		if choice.bound || choice.port > 0 {
			dialer.LocalAddr = &net.TCPAddr{IP: source.AsSlice(), Zone: source.Zone(), Port: choice.port}
		}
		conn, err := dialer.DialContext(ctx, "tcp", dst.String())
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if inUse := errors.Is(err, unix.EADDRNOTAVAIL) || choice.port > 0 && errors.Is(err, unix.EADDRINUSE); !inUse || try >= rangeTries && choice.port == 0 {
			return nil, err
		}
	}
}

// portsToReuse are the last ones of those that the kernel chooses from, 0 where they are not known.
func portsToReuse() (first, last int) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0
	}
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil || first < 1 || last < first {
		return 0, 0
	}
	return last - (last-first)/reusedPorts, last
}

// portChoice is how a source port is chosen.
type portChoice struct {
	bound   bool // to an address
	inRange bool // by the kernel, from a range of the socket's own
	port    int  // this one; 0: by the kernel
}

func (c portChoice) set(raw syscall.RawConn) error {
	var sockErr error
	err := raw.Control(func(fd uintptr) {
		// So that its port may be bound to again while it is in TIME_WAIT.
		reuse := socketOption{level: unix.SOL_SOCKET, number: unix.SO_REUSEADDR, name: "SO_REUSEADDR"}
		if sockErr = reuse.set(int(fd), 1); sockErr != nil || c.port > 0 {
			return
		}
		if c.inRange {
			start := firstPort + rand.N(rangeStarts)
			// Linux 6.3; without it the search is as long as it is.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, (start+portRange-1)<<hiPortsShift|start)
		}
		if c.bound {
			// Lets one source port serve many destinations: without it bind(2) takes the port for
			// itself, and one address has no more than some 28,000 of them.
			option := socketOption{level: unix.SOL_IP, number: unix.IP_BIND_ADDRESS_NO_PORT, name: "IP_BIND_ADDRESS_NO_PORT"}
			sockErr = option.set(int(fd), 1)
		}
	})
	return errors.Join(err, sockErr)
}
