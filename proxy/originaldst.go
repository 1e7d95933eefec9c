// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// OriginalDst returns the address that the client of an accepted connection asked for, before the
// kernel diverted the connection to the listener.
//
// After REDIRECT or any other DNAT that is what conntrack remembers: SO_ORIGINAL_DST of
// linux/netfilter_ipv4.h, IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h. After TPROXY
// it is the local address of the socket (Documentation/networking/tproxy.rst), which is also the
// answer where conntrack has no entry: for a connection that nothing diverted, and where conntrack
// is not loaded or not used. IPv4-mapped addresses are returned as IPv4.
//
// Ask soon after accepting: conntrack forgets a connection some seconds after its end. It is asked
// about its default zone only, so a redirected connection that a rule has put into another zone
// seems to have been going to the listener.
//
// The error is that of the closed connection or of getsockopt(2); EOPNOTSUPP means that the
// connection is MPTCP, which a [Listener] of [Listen] never accepts.
func OriginalDst(conn *net.TCPConn) (netip.AddrPort, error) {
	dst, err := originalDst(conn)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("proxy: original destination: %w", err)
	}
	return dst, nil
}

func originalDst(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	local := addrPort(conn.LocalAddr())
	conntrackDst := conntrackDst6
	if local.Addr().Is4() {
		conntrackDst = conntrackDst4
	}
	var dst netip.AddrPort
	var sockErr error
	if err := raw.Control(func(fd uintptr) { dst, sockErr = conntrackDst(int(fd)) }); err != nil {
		return netip.AddrPort{}, err
	}
	switch {
	case sockErr == nil:
		return dst, nil
	case errors.Is(sockErr, unix.ENOENT), errors.Is(sockErr, unix.ENOPROTOOPT):
		// No entry, or no conntrack at all.
		return local, nil
	default:
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", sockErr)
	}
}

// conntrackDst4 also serves IPv4 connections of an IPv6 socket: the kernel passes SOL_IP on.
func conntrackDst4(fd int) (netip.AddrPort, error) {
	// x/sys has no getsockopt that returns a sockaddr_in; struct ipv6_mreq is the shortest
	// that has room for its 16 bytes, and its first field covers them.
	v, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	sa := v.Multiaddr // family, port, address
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), binary.BigEndian.Uint16(sa[2:4])), nil
}

func conntrackDst6(fd int) (netip.AddrPort, error) {
	// struct ip6_mtuinfo starts with the sockaddr_in6 that is wanted, and
	// IP6T_SO_ORIGINAL_DST has the same number as SO_ORIGINAL_DST.
	v, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr := netip.AddrFrom16(v.Addr.Addr).Unmap()
	if index := int(v.Addr.Scope_id); index != 0 {
		addr = addr.WithZone(zone(index))
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v.Addr.Port))
	return netip.AddrPortFrom(addr, port), nil
}

// zone is the interface's name, as in the addresses of package net, or failing that its index.
func zone(index int) string {
	if ifi, err := net.InterfaceByIndex(index); err == nil {
		return ifi.Name
	}
	return strconv.Itoa(index)
}

// zoneIndex is the index of an address's interface, 0 without one.
func zoneIndex(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if ifi, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(ifi.Index)
	}
	index, _ := strconv.Atoi(a.Zone()) // as zone has it
	return uint32(index)
}

// addrPort is the address of a TCP or UDP socket, of IPv4 as such.
func addrPort(a net.Addr) netip.AddrPort {
	withPort, ok := a.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}
	}
	ap := withPort.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
