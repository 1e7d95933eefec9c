// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package conntrack lists and deletes what connection tracking remembers of TCP connections.
package conntrack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/proc"
	"golang.org/x/sys/unix"
)

// Messages and attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	messageGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	messageDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE

	attrOriginal = 1  // CTA_TUPLE_ORIG
	attrReply    = 2  // CTA_TUPLE_REPLY
	attrProtocol = 4  // CTA_PROTOINFO
	attrID       = 12 // CTA_ID
	attrZone     = 18 // CTA_ZONE

	tupleIP, tuplePorts, tupleZone  = 1, 2, 3 // CTA_TUPLE_IP, CTA_TUPLE_PROTO, CTA_TUPLE_ZONE
	ipv4Src, ipv4Dst                = 1, 2
	ipv6Src, ipv6Dst                = 3, 4
	protoNumber, protoSrc, protoDst = 1, 2, 3 // CTA_PROTO_NUM and so on
	infoTCP, tcpState               = 1, 1    // CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE

	header = 4 // struct nfgenmsg of linux/netfilter/nfnetlink.h
)

// TimeWait is the state of a connection that both ends have closed: the next SYN between them begins another, and a new
// entry (TCP_CONNTRACK_TIME_WAIT of linux/netfilter/nf_conntrack_tcp.h).
const TimeWait = 7

// Tuple is where packets of one direction come from and go.
type Tuple struct{ Src, Dst netip.AddrPort }

// Entry is a TCP connection that is remembered.
type Entry struct {
	Original, Reply Tuple
	State           uint8
	Zoned           bool   // either direction is in a zone other than 0: the addresses may be another network's
	key             []byte // attributes that name it
}

// NoneHere reports whether the network namespace of the calling thread certainly has no entry. Where there is no
// /proc it is not certain.
func NoneHere() bool {
	text, err := proc.Read("/proc/sys/net/netfilter/nf_conntrack_count")
	return err == nil && bytes.Equal(bytes.TrimSpace(text), []byte("0"))
}

// TCP visits the entries of TCP connections of both families. Some may be missing or come twice where others come and go
// meanwhile. The error may be nl.ErrChanged.
func TCP(ctx context.Context, s *nl.Socket, visit func(Entry) error) error {
	err := nl.Dump(ctx, s, messageGet, make([]byte, header), func(m netlink.Message) error {
		e, tcp, err := decode(m.Data)
		if err != nil || !tcp {
			return err
		}
		return visit(e)
	})
	if err != nil {
		return fmt.Errorf("list what connection tracking remembers: %w", err)
	}
	return nil
}

// Delete has the kernel forget an entry. It is no error if it already did.
func Delete(ctx context.Context, s *nl.Socket, e Entry) error {
	family := byte(unix.AF_INET6)
	if e.Original.Src.Addr().Is4() {
		family = unix.AF_INET
	}
	err := s.Execute(ctx, netlink.Message{
		Header: netlink.Header{Type: messageDelete, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, e.key...),
	}, func(netlink.Message) error { return nil })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete what connection tracking remembers: %w", nl.Permission(err))
	}
	return nil
}

// decode reads an entry; tcp is false for one of another protocol.
func decode(data []byte) (e Entry, tcp bool, err error) {
	if len(data) < header {
		return e, false, nl.ErrShort
	}
	a, err := nl.Decode(data[header:])
	if err != nil {
		return e, false, err
	}
	original := a.Take(attrOriginal)
	zoned, replyZoned := false, false
	if e.Original, zoned, tcp, err = decodeTuple(original); err != nil || !tcp {
		return e, false, err
	}
	if e.Reply, replyZoned, _, err = decodeTuple(a.Take(attrReply)); err != nil {
		return e, false, err
	}
	e.Zoned = zoned || replyZoned || a.Has(attrZone)
	if e.State, err = decodeState(a.Take(attrProtocol)); err != nil {
		return e, false, err
	}
	key := netlink.NewAttributeEncoder()
	key.Bytes(attrOriginal|unix.NLA_F_NESTED, original)
	for _, typ := range []uint16{attrID, attrZone} {
		if a.Has(typ) {
			key.Bytes(typ, a.Take(typ))
		}
	}
	e.key, err = key.Encode()
	return e, true, err
}

// decodeTuple reads one direction, and whether it has a zone of its own; tcp is false for one of another protocol.
func decodeTuple(b []byte) (t Tuple, zoned, tcp bool, err error) {
	a, err := nl.Decode(b)
	if err != nil {
		return t, false, false, err
	}
	ip, err := nl.Decode(a.Take(tupleIP))
	if err != nil {
		return t, false, false, err
	}
	ports, err := nl.Decode(a.Take(tuplePorts))
	if err != nil {
		return t, false, false, err
	}
	address := func(ipv4, ipv6 uint16) netip.Addr {
		one, ok := netip.AddrFromSlice(ip.Take(ipv4))
		if !ok {
			one, _ = netip.AddrFromSlice(ip.Take(ipv6))
		}
		return one
	}
	t.Src = netip.AddrPortFrom(address(ipv4Src, ipv6Src), uint16(ports.Number(protoSrc)))
	t.Dst = netip.AddrPortFrom(address(ipv4Dst, ipv6Dst), uint16(ports.Number(protoDst)))
	return t, a.Has(tupleZone), ports.Number(protoNumber) == unix.IPPROTO_TCP && t.Src.IsValid() && t.Dst.IsValid(), nil
}

// decodeState reads the state that TCP is in.
func decodeState(b []byte) (uint8, error) {
	a, err := nl.Decode(b)
	if err != nil {
		return 0, err
	}
	tcp, err := nl.Decode(a.Take(infoTCP))
	return uint8(tcp.Number(tcpState)), err
}
