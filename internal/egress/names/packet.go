// SPDX-License-Identifier: Apache-2.0

package names

import (
	"encoding/binary"
	"net/netip"
)

// Packet is a packet from its network header on, as far as names are read from it.
type Packet struct {
	Proto    uint8 // protoTCP or protoUDP
	Src, Dst netip.AddrPort
	Seq      uint32 // of TCP: of the first byte of Data
	Data     []byte // what follows the transport header
}

const (
	protoTCP = 6
	protoUDP = 17
)

// parsePacket reads an IPv4 or IPv6 packet that may be cut short; ok is false where it is
// neither TCP nor UDP, or a later fragment.
func parsePacket(b []byte) (p Packet, ok bool) {
	var src, dst netip.Addr
	if len(b) == 0 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		length := int(b[0]&0xf) * 4
		if length < 20 || len(b) < length || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return p, false
		}
		p.Proto = b[9]
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		if total := int(binary.BigEndian.Uint16(b[2:])); total >= length && total < len(b) {
			b = b[:total]
		}
		b = b[length:]
	case 6:
		if len(b) < 40 {
			return p, false
		}
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		p.Proto, b = b[6], b[40:]
		if p.Proto, b, ok = skipExtensions(p.Proto, b); !ok {
			return p, false
		}
	default:
		return p, false
	}
	header := 8
	if p.Proto == protoTCP {
		if len(b) < 20 {
			return p, false
		}
		header, p.Seq = int(b[12]>>4)*4, binary.BigEndian.Uint32(b[4:])
	}
	if p.Proto != protoTCP && p.Proto != protoUDP || header < 8 || len(b) < header {
		return p, false
	}
	p.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[0:]))
	p.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	p.Data = b[header:]
	return p, true
}

// skipExtensions goes over the headers between that of IPv6 and the transport's (RFC 8200,
// section 4).
func skipExtensions(next uint8, b []byte) (uint8, []byte, bool) {
	const hopByHop, routing, destination, most = 0, 43, 60, 8
	for range most {
		if next != hopByHop && next != routing && next != destination {
			return next, b, true
		}
		if len(b) < 8 {
			return 0, nil, false
		}
		length := 8 + int(b[1])*8
		if len(b) < length {
			return 0, nil, false
		}
		next, b = b[0], b[length:]
	}
	return 0, nil, false
}
