// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// PacketHeader is the part of a packet's headers that a trace tells. The zero
// PacketHeader tells nothing.
type PacketHeader struct {
	Proto    rules.Proto
	Src, Dst netip.AddrPort // of port 0 where the protocol has none
	TCPFlags uint8          // FIN, SYN, RST, PSH, ACK, URG from the lowest bit on
	Length   int            // of the packet from its network header on, in bytes
}

// Known reports whether the trace told the addresses.
func (h PacketHeader) Known() bool { return h.Src.Addr().IsValid() }

// packetHeader reads RFC 791 and RFC 8200 headers, and the first bytes of the
// transport's. Extension headers of IPv6 are not followed.
func packetHeader(family uint64, network, transport []byte) PacketHeader {
	const v4Length, v6Length = 20, 40
	var h PacketHeader
	var src, dst netip.Addr
	switch {
	case rules.Family(family) == rules.IPv4 && len(network) >= v4Length:
		h.Proto, h.Length = rules.Proto(network[9]), int(binary.BigEndian.Uint16(network[2:]))
		src, dst = netip.AddrFrom4([4]byte(network[12:])), netip.AddrFrom4([4]byte(network[16:]))
	case rules.Family(family) == rules.IPv6 && len(network) >= v6Length:
		h.Proto, h.Length = rules.Proto(network[6]), v6Length+int(binary.BigEndian.Uint16(network[4:]))
		src, dst = netip.AddrFrom16([16]byte(network[8:])), netip.AddrFrom16([16]byte(network[24:]))
	default:
		return h
	}
	var sport, dport uint16
	if (h.Proto == rules.TCP || h.Proto == rules.UDP) && len(transport) >= 4 {
		sport, dport = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
	if h.Proto == rules.TCP && len(transport) >= 14 {
		h.TCPFlags = transport[13] & 0x3f
	}
	h.Src, h.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return h
}
