// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// UDPListener receives datagrams that TPROXY diverts to it, each with its original destination
// (IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR). [UDPServer] makes flows of them.
type UDPListener struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	options SocketOptions
	answers answerers
	batches batchPool
	counts  udpCounters
	waiting atomic.Int64 // bytes of datagrams that wait for dials
}

// UDPStats counts what became of the datagrams and the flows of a listener.
type UDPStats struct {
	Flows   int    // open now
	Opened  uint64 // flows so far
	Evicted uint64 // of them ended for a new one
	Idle    uint64 // of them ended because they carried nothing for too long
	Failed  uint64 // of them ended by an error, such as a failed dial
	Dropped uint64 // datagrams that could not be sent on: no route, no room, too large
	Unknown uint64 // datagrams of which the kernel did not tell the original destination
}

type udpCounters struct {
	flows                                           atomic.Int64
	opened, evicted, idle, failed, dropped, unknown atomic.Uint64
}

// receiveRoom is asked for the listener, which all flows share. The kernel gives up to
// net.core.rmem_max.
const receiveRoom = 4 << 20

// ListenUDP opens a socket that datagrams can be diverted to by TPROXY, for which options has to be
// Transparent. (REDIRECT leaves no original destination behind, and a datagram that it diverts seems
// to have been for the listener.) The addresses are those of [Listen]. The mark is that of the
// listener and of all answers. ctx is for the opening only.
func ListenUDP(ctx context.Context, addr netip.AddrPort, options SocketOptions) (*UDPListener, error) {
	lc := net.ListenConfig{Control: func(network, address string, raw syscall.RawConn) error {
		return errors.Join(options.Control(network, address, raw), receiveOriginalDst(network, raw))
	}}
	network, address := networkOf("udp", addr)
	conn, err := lc.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	l := &UDPListener{conn: conn.(*net.UDPConn), options: options}
	if l.raw, err = l.conn.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("proxy: %w", err), conn.Close())
	}
	_ = l.conn.SetReadBuffer(receiveRoom) // what it has otherwise serves as well
	l.answers.init(l)
	return l, nil
}

func receiveOriginalDst(network string, raw syscall.RawConn) error {
	var sockErr error
	err := raw.Control(func(fd uintptr) {
		// On a socket for both families this one is for its IPv4 datagrams.
		sockErr = socketOption{level: unix.SOL_IP, number: unix.IP_RECVORIGDSTADDR, name: "IP_RECVORIGDSTADDR"}.set(int(fd), 1)
		if strings.HasSuffix(network, "6") {
			sockErr = errors.Join(sockErr, socketOption{level: unix.SOL_IPV6, number: unix.IPV6_RECVORIGDSTADDR, name: "IPV6_RECVORIGDSTADDR"}.set(int(fd), 1))
		}
	})
	return errors.Join(err, sockErr)
}

// Addr is where the listener was opened.
func (l *UDPListener) Addr() netip.AddrPort { return addrPort(l.conn.LocalAddr()) }

// Close closes the listener. A Serve of it ends with an error.
func (l *UDPListener) Close() error {
	if err := l.conn.Close(); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	return nil
}

// Stats is what it has counted so far.
func (l *UDPListener) Stats() UDPStats {
	c := &l.counts
	return UDPStats{
		Flows: int(c.flows.Load()), Opened: c.opened.Load(), Evicted: c.evicted.Load(), Idle: c.idle.Load(),
		Failed: c.failed.Load(), Dropped: c.dropped.Load(), Unknown: c.unknown.Load(),
	}
}
