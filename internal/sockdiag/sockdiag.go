// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package sockdiag lists sockets over sock_diag(7).
package sockdiag

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// Socket is an Internet socket as sock_diag tells of it.
type Socket struct {
	Ends
	State       byte // Established and so on
	Cookie      uint64
	UID         uint32
	Mark        uint32
	Resend      time.Duration // until it sends a packet again that was not answered
	Transparent bool          // IP_TRANSPARENT, where the kernel tells options
	Options     bool          // it does, since Linux 5.11
	OnlyIPv6    bool          // IPV6_V6ONLY
	Traffic     Traffic       // where it was asked for
}

// Ends are the addresses of a connection as one of its ends sees them. IPv4 addresses
// of IPv6 sockets stand as IPv4: so its packets have them.
type Ends struct{ Local, Remote netip.AddrPort }

// Turned are the same ends as the other one sees them, unless nat is between.
func (e Ends) Turned() Ends { return Ends{e.Remote, e.Local} }

// States of TCP, of include/net/tcp_states.h.
const (
	Established = 1
	SynSent     = 2
	SynRecv     = 3
	TimeWait    = 6
	Closed      = 7
	Listen      = 10
	Bound       = 13 // TCP_BOUND_INACTIVE
)

// Open reports whether a packet of the TCP connection may still come, or it still
// opens. In TIME_WAIT both ends have closed, and all that they sent has arrived.
func (s Socket) Open() bool {
	switch s.State {
	case TimeWait, Closed, Listen, Bound:
		return false
	}
	return true
}

// ErrNoTCP means that the kernel lists no TCP sockets.
var ErrNoTCP = errors.New("TCP sockets cannot be listed: this kernel has no sock_diag for TCP (CONFIG_INET_TCP_DIAG)")

// TCP lists the TCP sockets of both families in every state: in one go, for by family
// it takes two walks through all sockets of the machine. The error may be nl.ErrChanged
// and ErrNoTCP.
func TCP(ctx context.Context, s *nl.Socket) ([]Socket, error) {
	const tcpDiagGetSock = 18     // TCPDIAG_GETSOCK of linux/inet_diag.h
	const size, statesAt = 60, 52 // struct inet_diag_req
	request := make([]byte, size)
	binary.NativeEndian.PutUint32(request[statesAt:], ^uint32(0))
	out, err := list(ctx, s, tcpDiagGetSock, request)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP): // without tcp_diag, without inet_diag
		return nil, ErrNoTCP
	case err != nil:
		return nil, fmt.Errorf("list TCP sockets: %w", err)
	}
	return out, nil
}

// States is a set of the states of linux/tcp_states.h, a bit each.
type States uint32

// Sets of states. To list none but those that wait spares the walk through every
// connection of the machine (inet_diag_dump_icsk of net/ipv4/inet_diag.c).
const (
	AnyState    States = 1<<32 - 1
	Listening   States = 1 << 10 // TCP_LISTEN
	Unconnected States = 1 << 7  // TCP_CLOSE: of a datagram socket
)

// Of lists the sockets of one family and one protocol in those states, none where the
// kernel has no such sockets or does not list them. The error may be nl.ErrChanged.
func Of(ctx context.Context, s *nl.Socket, family, protocol byte, states States) ([]Socket, error) {
	const size, statesAt = 56, 4 // struct inet_diag_req_v2 of linux/inet_diag.h
	request := make([]byte, size)
	request[0], request[1] = family, protocol
	binary.NativeEndian.PutUint32(request[statesAt:], uint32(states))
	out, err := list(ctx, s, unix.SOCK_DIAG_BY_FAMILY, request)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	return out, nil
}

func list(ctx context.Context, s *nl.Socket, typ uint16, request []byte) (out []Socket, err error) {
	err = nl.Dump(ctx, s, typ, request, func(m netlink.Message) error {
		s, err := decode(m.Data)
		out = append(out, s)
		return err
	})
	return out, err
}

// Attributes of linux/inet_diag.h that golang.org/x/sys/unix lacks.
const (
	diagV6Only  = 11 // INET_DIAG_SKV6ONLY
	diagMark    = 15 // INET_DIAG_MARK
	diagSockopt = 22 // INET_DIAG_SOCKOPT, since Linux 5.11
)

// decode reads struct inet_diag_msg of linux/inet_diag.h and its attributes.
func decode(data []byte) (Socket, error) {
	const (
		size, family, state, timer         = 72, 0, 1, 2
		sourcePort, destPort, source, dest = 4, 6, 8, 24
		cookie, expires, uid               = 44, 52, 64
		timerResend                        = 1      // of a timer
		transparent                        = 1 << 5 // of struct inet_diag_sockopt
	)
	if len(data) < size {
		return Socket{}, nl.ErrShort
	}
	a, err := nl.Decode(data[size:])
	if err != nil {
		return Socket{}, err
	}
	length := 16
	if data[family] == unix.AF_INET {
		length = 4
	}
	end := func(address, port int) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(data[address : address+length])
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(data[port:]))
	}
	s := Socket{
		Ends:   Ends{end(source, sourcePort), end(dest, destPort)},
		State:  data[state],
		Cookie: binary.NativeEndian.Uint64(data[cookie:]),
		UID:    nl.Native32(data[uid : uid+4]),
		Mark:   a.Native32(diagMark),
	}
	if data[timer] == timerResend {
		s.Resend = time.Duration(nl.Native32(data[expires:expires+4])) * time.Millisecond
	}
	if options := a.Take(diagSockopt); len(options) > 0 {
		s.Options, s.Transparent = true, options[0]&transparent != 0
	}
	s.Traffic = traffic(a.Take(diagInfo))
	only := a.Take(diagV6Only)
	s.OnlyIPv6 = len(only) > 0 && only[0] != 0
	return s, nil
}
