// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// A Route is an entry of a routing table.
type Route struct {
	Dst   netip.Prefix // what it is for; 0.0.0.0/0 and ::/0 are the default routes
	Via   netip.Addr   // the next hop; none where Dst is on the link itself
	Link  string       // the link to send through; may be left to the kernel where Via is given
	Local bool         // deliver to the namespace itself, as if Dst were its own address; the link is then lo
	Table uint32       // 0 is the main table
}

// A Rule is an entry of the routing policy: packets of one family that meet every condition given are
// looked up in a table.
type Rule struct {
	IPv6       bool
	IIf        string // packets that arrived on this link
	Mark, Mask uint32 // packets whose mark is Mark under Mask; a Mask of 0 asks for no mark
	Table      uint32
	Priority   uint32 // never 0, which is the local table's; equal rules are accepted twice by the kernel
}

// AddRoute adds a route. One that exists is an error.
func (n *Namespace) AddRoute(r Route) error {
	msg := &rtnetlink.RouteMessage{
		Family:    family(r.Dst.Addr()),
		DstLength: uint8(r.Dst.Bits()),
		Table:     unix.RT_TABLE_UNSPEC, // the attribute holds tables past 255 too
		Protocol:  unix.RTPROT_BOOT,
		Type:      unix.RTN_UNICAST,
		Attributes: rtnetlink.RouteAttributes{
			Dst:     r.Dst.Masked().Addr().AsSlice(),
			Gateway: r.Via.AsSlice(),
			Table:   r.Table,
		},
	}
	if r.Table == 0 {
		msg.Attributes.Table = unix.RT_TABLE_MAIN
	}
	switch {
	case r.Local:
		msg.Type, msg.Scope = unix.RTN_LOCAL, unix.RT_SCOPE_HOST
		r.Link = "lo"
	case !r.Via.IsValid():
		msg.Scope = unix.RT_SCOPE_LINK
	}
	err := n.withLink(r.Link, func(c *rtnetlink.Conn, index uint32) error {
		msg.Attributes.OutIface = index
		return c.Route.Add(msg)
	})
	if err != nil {
		return fmt.Errorf("add route %s: %w", r.Dst, err)
	}
	return nil
}

// AddRule adds a policy rule.
func (n *Namespace) AddRule(r Rule) error {
	if r.Priority == 0 || r.Table == 0 {
		return fmt.Errorf("add rule: priority %d, table %d: want both", r.Priority, r.Table)
	}
	msg := &rtnetlink.RuleMessage{
		Family:     unix.AF_INET,
		Action:     unix.FR_ACT_TO_TBL,
		Attributes: &rtnetlink.RuleAttributes{Table: &r.Table, Priority: &r.Priority},
	}
	if r.IPv6 {
		msg.Family = unix.AF_INET6
	}
	if r.IIf != "" {
		msg.Attributes.IIFName = &r.IIf
	}
	if r.Mask != 0 {
		msg.Attributes.FwMark, msg.Attributes.FwMask = &r.Mark, &r.Mask
	}
	err := n.routing(func(c *rtnetlink.Conn) error { return c.Rule.Add(msg) })
	if err != nil {
		return fmt.Errorf("add rule with priority %d: %w", r.Priority, err)
	}
	return nil
}
