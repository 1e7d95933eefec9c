// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// message is an entry as the kernel lists it.
func message(t testing.TB, protocol, state uint8, src, dst, answerSrc netip.AddrPort) []byte {
	t.Helper()
	nest := func(fill func(*netlink.AttributeEncoder)) func(*netlink.AttributeEncoder) error {
		return func(e *netlink.AttributeEncoder) error {
			e.ByteOrder = binary.BigEndian
			fill(e)
			return nil
		}
	}
	tuple := func(src, dst netip.AddrPort) func(*netlink.AttributeEncoder) error {
		return nest(func(e *netlink.AttributeEncoder) {
			from, to := uint16(ipv4Src), uint16(ipv4Dst)
			if src.Addr().Is6() {
				from, to = ipv6Src, ipv6Dst
			}
			e.Nested(tupleIP, nest(func(e *netlink.AttributeEncoder) {
				e.Bytes(from, src.Addr().AsSlice())
				e.Bytes(to, dst.Addr().AsSlice())
			}))
			e.Nested(tuplePorts, nest(func(e *netlink.AttributeEncoder) {
				e.Uint8(protoNumber, protocol)
				e.Uint16(protoSrc, src.Port())
				e.Uint16(protoDst, dst.Port())
			}))
		})
	}
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Nested(attrOriginal, tuple(src, dst))
	e.Nested(attrReply, tuple(answerSrc, src))
	e.Nested(attrProtocol, nest(func(e *netlink.AttributeEncoder) {
		e.Nested(infoTCP, nest(func(e *netlink.AttributeEncoder) { e.Uint8(tcpState, state) }))
	}))
	e.Uint32(attrID, 7)
	e.Uint16(attrZone, 5)
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{unix.AF_INET, 0, 0, 0}, data...)
}

var (
	client   = netip.MustParseAddrPort("198.18.0.2:40000")
	server   = netip.MustParseAddrPort("203.0.113.7:80")
	listener = netip.MustParseAddrPort("127.0.0.1:15001")
	client6  = netip.MustParseAddrPort("[fd00:18::2]:40000")
	server6  = netip.MustParseAddrPort("[fd00:99::7]:80")
)

func TestDecode(t *testing.T) {
	for _, row := range []struct {
		why       string
		message   []byte
		original  Tuple
		reply     Tuple
		state     uint8
		connected bool
	}{
		{"IPv4, translated", message(t, unix.IPPROTO_TCP, 3, client, server, listener), Tuple{client, server}, Tuple{listener, client}, 3, true},
		{"IPv6", message(t, unix.IPPROTO_TCP, TimeWait, client6, server6, server6), Tuple{client6, server6}, Tuple{server6, client6}, TimeWait, true},
		{"another protocol", message(t, unix.IPPROTO_UDP, 0, client, server, server), Tuple{}, Tuple{}, 0, false},
		{"no attributes", make([]byte, header), Tuple{}, Tuple{}, 0, false},
	} {
		e, tcp, err := decode(row.message)
		if err != nil || tcp != row.connected {
			t.Errorf("%s: it is one of TCP: %t, %v", row.why, tcp, err)
		}
		if tcp && (e.Original != row.original || e.Reply != row.reply || e.State != row.state || !e.Zoned || len(e.key) == 0) {
			t.Errorf("%s: %+v", row.why, e)
		}
	}
	if _, _, err := decode(make([]byte, header-1)); err == nil {
		t.Error("a message without its header is read")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message(f, unix.IPPROTO_TCP, 3, client, server, listener))
	f.Add(message(f, unix.IPPROTO_TCP, TimeWait, client6, server6, server6))
	f.Add(message(f, unix.IPPROTO_UDP, 0, client, server, server))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, tcp, err := decode(data); tcp && err == nil && (len(e.key) == 0 || !e.Original.Src.IsValid()) {
			t.Errorf("%x: %+v cannot be named", data, e)
		}
	})
}
