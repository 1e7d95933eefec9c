//go:build linux

package scratch

import (
	"encoding/binary"
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
