// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The connection tracker's netlink messages (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctGet = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaMark       = 8
	ctaZone       = 18

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src, ctaIPv4Dst = 1, 2
	ctaIPv6Src, ctaIPv6Dst = 3, 4

	ctaProtoNum, ctaProtoSrcPort, ctaProtoDstPort = 1, 2, 3

	nfgenSize = 4 // struct nfgenmsg, before the attributes
)

// dumpAttempts bounds how often a dump is started over that the kernel says was interrupted.
const dumpAttempts = 5

// A Flow is an entry of the connection tracker, seen in the direction of its first packet.
type Flow struct {
	Proto    uint8 // IPPROTO_TCP, for one
	Src, Dst netip.AddrPort
	Mark     uint32
	Zone     uint16 // of both directions, or of the one that has a zone
}

// Track is the flow's mark and zone, as far as they are not zero, in the words of a conformance table:
// "mark=0x111+zone=1".
func (f Flow) Track() string {
	switch {
	case f.Mark != 0 && f.Zone != 0:
		return fmt.Sprintf("mark=%#x+zone=%d", f.Mark, f.Zone)
	case f.Mark != 0:
		return fmt.Sprintf("mark=%#x", f.Mark)
	case f.Zone != 0:
		return fmt.Sprintf("zone=%d", f.Zone)
	}
	return ""
}

// Conntrack lists the flows that the namespace's connection tracker knows, in no order; none while no
// rule there has switched tracking on. A flow may be listed twice if others come and go meanwhile.
func (n *Namespace) Conntrack() (flows []Flow, err error) {
	err = n.Do(func() (err error) {
		c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		for range dumpAttempts {
			var whole bool
			if flows, whole, err = dumpFlows(c); err != nil || whole {
				return err
			}
		}
		return fmt.Errorf("interrupted %d times by changes", dumpAttempts)
	})
	if err != nil {
		return nil, fmt.Errorf("read conntrack: %w", err)
	}
	return flows, nil
}

// dumpFlows asks for all flows of both families once; the answer is whole unless it was interrupted.
func dumpFlows(c *netlink.Conn) (flows []Flow, whole bool, err error) {
	messages, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: ctGet, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return nil, false, err
	}
	for _, m := range messages {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return nil, false, nil
		}
		f, err := parseFlow(m.Data)
		if err != nil {
			return nil, false, err
		}
		flows = append(flows, f)
	}
	return flows, true, nil
}

// parseFlow reads one message of a dump.
func parseFlow(data []byte) (Flow, error) {
	if len(data) < nfgenSize {
		return Flow{}, errors.New("message too short")
	}
	ad, err := netlink.NewAttributeDecoder(data[nfgenSize:])
	if err != nil {
		return Flow{}, err
	}
	ad.ByteOrder = binary.BigEndian
	var f, reply Flow
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			ad.Nested(f.parseTuple)
		case ctaTupleReply:
			ad.Nested(reply.parseTuple)
		case ctaMark:
			f.Mark = ad.Uint32()
		case ctaZone:
			f.Zone = ad.Uint16()
		}
	}
	if f.Zone == 0 {
		f.Zone = reply.Zone
	}
	return f, ad.Err()
}

// parseTuple reads one direction of a flow, and its zone if the zone is of that direction alone.
func (f *Flow) parseTuple(ad *netlink.AttributeDecoder) error {
	var src, dst netip.Addr
	var srcPort, dstPort uint16
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleIP:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch ad.Type() {
					case ctaIPv4Src, ctaIPv6Src:
						src, _ = netip.AddrFromSlice(ad.Bytes())
					case ctaIPv4Dst, ctaIPv6Dst:
						dst, _ = netip.AddrFromSlice(ad.Bytes())
					}
				}
				return nil
			})
		case ctaTupleProto:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch ad.Type() {
					case ctaProtoNum:
						f.Proto = ad.Uint8()
					case ctaProtoSrcPort:
						srcPort = ad.Uint16()
					case ctaProtoDstPort:
						dstPort = ad.Uint16()
					}
				}
				return nil
			})
		case ctaTupleZone:
			f.Zone = ad.Uint16()
		}
	}
	f.Src, f.Dst = netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort)
	return nil
}
