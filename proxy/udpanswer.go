// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// answerers are the sockets that answers leave by, one for each address that clients have asked.
type answerers struct {
	listener *UDPListener
	mu       sync.Mutex
	open     map[netip.AddrPort]*answerer
}

// answerer sends from an address that clients have asked.
type answerer struct {
	all    *answerers
	addr   netip.AddrPort
	conn   interface{ Close() error } // nil where it is the listener, which others close
	raw    syscall.RawConn
	direct bool // a raw socket, to which UDP headers are to be given
	users  int
}

func (a *answerers) init(l *UDPListener) { a.listener, a.open = l, map[netip.AddrPort]*answerer{} }

// acquire opens the socket for an address, or shares it. It is to be released.
func (a *answerers) acquire(ctx context.Context, addr netip.AddrPort) (*answerer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.open[addr]
	if s == nil {
		var err error
		if s, err = a.socket(ctx, addr); err != nil {
			return nil, fmt.Errorf("proxy: answer from %s: %w", addr, err)
		}
		a.open[addr] = s
	}
	s.users++
	return s, nil
}

func (s *answerer) release() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(s.all.open, s.addr)
		if s.conn != nil {
			_ = s.conn.Close()
		}
	}
}

// socket opens what can send from addr. Where addr is the host's own, the service that clients ask for
// is bound to it, or will be: it is not to be kept from it, nor are its datagrams to be taken. A raw
// socket binds no port. Nor can a port be bound that a service of the host has at every address.
func (a *answerers) socket(ctx context.Context, addr netip.AddrPort) (*answerer, error) {
	if addr == a.listener.Addr() { // nothing diverted the datagram
		return &answerer{all: a, addr: addr, raw: a.listener.raw}, nil
	}
	direct, err := isLocal(addr.Addr())
	if err != nil {
		return nil, err
	}
	conn, err := a.bind(ctx, addr, direct)
	if !direct && errors.Is(err, unix.EADDRINUSE) {
		direct = true
		conn, err = a.bind(ctx, addr, direct)
	}
	switch {
	case err != nil && direct && errors.Is(err, unix.EPERM):
		return nil, &OptionError{Option: "SOCK_RAW", Needs: "CAP_NET_RAW", Err: unix.EPERM}
	case err != nil:
		return nil, err
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &answerer{all: a, addr: addr, conn: conn, raw: raw, direct: direct}, nil
}

// bind opens a socket of that address, a raw one where it is to have no port. A raw one of IPv4 can be
// bound to another host's address since Linux 5.17 alone: it is bound to none, and its datagrams carry it.
func (a *answerers) bind(ctx context.Context, addr netip.AddrPort, direct bool) (net.PacketConn, error) {
	own := reuseAddress
	network, address := networkOf("udp", addr)
	if direct {
		own = receiveNothing
		network, _ = networkOf("ip", addr)
		network, address = network+":udp", addr.Addr().String()
		if addr.Addr().Is4() {
			address = ""
		}
	}
	lc := net.ListenConfig{Control: func(network, address string, raw syscall.RawConn) error {
		return errors.Join(a.listener.options.Control(network, address, raw), own(raw))
	}}
	return lc.ListenPacket(ctx, network, address)
}

// to is how datagrams leave for a client.
func (s *answerer) to(client netip.AddrPort) datagramSender {
	sender := datagramSender{conn: s.raw, to: sockaddrOf(client), wait: &s.all.listener.batches}
	if s.direct {
		sender.to = sockaddrOf(netip.AddrPortFrom(client.Addr(), 0)) // a raw socket's ports are protocols
		sender.header = func(b []byte) { putUDPHeader(b, s.addr, client) }
		if s.addr.Addr().Is4() {
			sender.control = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: s.addr.Addr().As4()})
		}
	}
	return sender
}

// putUDPHeader writes the header of RFC 768 into the first bytes of a datagram.
func putUDPHeader(b []byte, from, to netip.AddrPort) {
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], 0)
	sum := onesSum(from.Addr().AsSlice()) + onesSum(to.Addr().AsSlice()) + unix.IPPROTO_UDP + uint64(len(b)) + onesSum(b)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	check := ^uint16(sum)
	if check == 0 {
		check = 0xffff // 0 says that there is none
	}
	binary.BigEndian.PutUint16(b[6:], check)
}

// onesSum adds 16-bit words; the carries are still to be added.
func onesSum(b []byte) (sum uint64) {
	for len(b) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(b)) // its halves add up alike, modulo 0xffff
		b = b[4:]
	}
	for len(b) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}

// reuseAddress lets several sockets answer from one address, such as those of two proxies.
func reuseAddress(raw syscall.RawConn) error {
	var sockErr error
	err := raw.Control(func(fd uintptr) {
		sockErr = socketOption{level: unix.SOL_SOCKET, number: unix.SO_REUSEADDR, name: "SO_REUSEADDR"}.set(int(fd), 1)
	})
	return errors.Join(err, sockErr)
}

// receiveNothing keeps a raw socket from being given copies of what others receive.
func receiveNothing(raw syscall.RawConn) error {
	var sockErr error
	err := raw.Control(func(fd uintptr) {
		drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
		sockErr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(drop)), Filter: &drop[0]})
	})
	if sockErr != nil {
		sockErr = &OptionError{Option: "SO_ATTACH_FILTER", Err: sockErr}
	}
	return errors.Join(err, sockErr)
}
