// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST: one number at two levels.
const soOriginalDst = 80

// answer is what a listener sends back, as JSON without a byte after it: a client that closes with
// something unread would reset the connection.
type answer struct {
	Land string         `json:"land"`          // the listener, as NAME:PORT
	Orig netip.AddrPort `json:"orig,omitzero"` // where the client wanted to go
	Peer netip.Addr     `json:"peer"`          // whom the listener sees
}

// originalDst is the destination that a redirected connection had before NAT, as the connection
// tracker remembers it. There is none for a connection that it does not know.
func originalDst(raw syscall.RawConn, v6 bool) (orig netip.AddrPort, err error) {
	err = controlled(raw, func(fd int) error {
		if v6 {
			// Only the option's size matters: this structure starts with a sockaddr_in6.
			info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
			if err != nil {
				return err
			}
			port := binary.NativeEndian.AppendUint16(nil, info.Addr.Port)
			orig = netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), binary.BigEndian.Uint16(port))
			return nil
		}
		// Likewise: large enough for a sockaddr_in (family, port, address).
		mreq, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
		if err != nil {
			return err
		}
		b := mreq.Multiaddr
		orig = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4]))
		return nil
	})
	return orig, err
}

// fromAddressAsked turns the packet information that came with a datagram into that of its answer, so
// that it leaves from the address that was asked. Nil, the kernel's choice, if there is none to be had.
func fromAddressAsked(received []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(received)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])})
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])})
		}
	}
	return nil
}

// portAsked is where a datagram was sent that came to a transparent listener, zero where the kernel
// does not say.
func portAsked(received []byte) netip.AddrPort {
	messages, err := unix.ParseSocketControlMessage(received)
	if err != nil {
		return netip.AddrPort{}
	}
	for _, m := range messages {
		if !(m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_ORIGDSTADDR || m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_ORIGDSTADDR) {
			continue
		}
		switch data := m.Data; {
		case len(data) >= unix.SizeofSockaddrInet6 && binary.NativeEndian.Uint16(data) == unix.AF_INET6:
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[8:24])), binary.BigEndian.Uint16(data[2:]))
		case len(data) >= unix.SizeofSockaddrInet4 && binary.NativeEndian.Uint16(data) == unix.AF_INET:
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[4:8])), binary.BigEndian.Uint16(data[2:]))
		}
	}
	return netip.AddrPort{}
}

// answerFrom sends a datagram from the address and port that another one was sent to which tproxy took.
// A raw socket leaves the port to the application that may have it. One of IPv4 is bound to another
// host's address since Linux 5.17 alone: the address goes with the datagram.
func answerFrom(ctx context.Context, from netip.AddrPort, mark uint32, to netip.AddrPort, text []byte) error {
	const header, checksumAt = 8, 6
	network, source := "ip4:udp", []byte(nil)
	if from.Addr().Is6() {
		network, source = "ip6:udp", unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.Addr().As16()})
	} else {
		source = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.Addr().As4()})
	}
	options := socketOptions{mark: mark, transparent: true}
	packets, err := (&net.ListenConfig{Control: options.control}).ListenPacket(ctx, network, "")
	if err != nil {
		return err
	}
	defer packets.Close()
	conn := packets.(*net.IPConn)
	if from.Addr().Is6() { // where a datagram must have a checksum, the kernel can write it
		raw, err := conn.SyscallConn()
		if err == nil {
			err = controlled(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_CHECKSUM, checksumAt) })
		}
		if err != nil {
			return err
		}
	}
	datagram := binary.BigEndian.AppendUint16(nil, from.Port())
	datagram = binary.BigEndian.AppendUint16(datagram, to.Port())
	datagram = binary.BigEndian.AppendUint16(datagram, uint16(header+len(text)))
	datagram = append(append(datagram, 0, 0), text...)
	_, _, err = conn.WriteMsgIP(datagram, source, &net.IPAddr{IP: to.Addr().Unmap().AsSlice()})
	return err
}
