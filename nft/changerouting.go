// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// addRouting adds all of s or nothing, and tells what was not there before.
func (c *Conn) addRouting(ctx context.Context, s rules.State) (added rules.State, err error) {
	if err := c.eachRouting(ctx, s, true, &added); err != nil {
		return rules.State{}, errors.Join(err, c.removeRouting(context.WithoutCancel(ctx), added))
	}
	return added, nil
}

// eachOdd removes what another program made of weir's routing, or puts it back; what is not there,
// or is there, is not an error.
func (c *Conn) eachOdd(ctx context.Context, odd []oddity, add bool) error {
	return each(odd, func(o oddity) error { return c.change(ctx, add, o.newType, netlink.Excl, o.raw, o.text, func() {}) })
}

// removeRouting takes s out; what is not there is no error.
func (c *Conn) removeRouting(ctx context.Context, s rules.State) error {
	return c.eachRouting(ctx, s, false, nil)
}

// eachRouting adds addresses, then routes, then rules, noting what was done, or
// removes them in the opposite order.
func (c *Conn) eachRouting(ctx context.Context, s rules.State, add bool, done *rules.State) error {
	steps := []func() error{
		func() error {
			return each(s.Addresses, func(a netip.Prefix) error {
				c.added = without(c.added, []netip.Prefix{a})
				return c.address(ctx, a, add, func() {
					c.added = append(c.added, a)
					done.Addresses = append(done.Addresses, a)
				})
			})
		},
		func() error {
			return each(s.Routes, func(r rules.Route) error {
				return c.localRoute(ctx, r, add, func() { done.Routes = append(done.Routes, r) })
			})
		},
		func() error {
			return each(s.PolicyRules, func(r rules.PolicyRule) error {
				return c.policyRule(ctx, r, add, func() { done.PolicyRules = append(done.PolicyRules, r) })
			})
		},
	}
	if !add {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func each[T any](list []T, do func(T) error) error {
	for _, v := range list {
		if err := do(v); err != nil {
			return err
		}
	}
	return nil
}

// change sends one request. Adding what is there and removing what is not are
// no errors; added is called when something was added. What is added goes to a place of its own
// (netlink.Excl), or after others in the same one (netlink.Append).
func (c *Conn) change(ctx context.Context, add bool, newType uint16, place netlink.HeaderFlags, payload []byte, what string, added func()) error {
	h := netlink.Header{Type: netlink.HeaderType(newType), Flags: netlink.Request | netlink.Acknowledge}
	if add {
		h.Flags |= netlink.Create | place
	} else {
		h.Type++ // RTM_DEL* follows RTM_NEW*
	}
	_, err := execute(ctx, c.route, netlink.Message{Header: h, Data: payload})
	switch {
	case err == nil && add:
		added()
		return nil
	case err == nil, add && errors.Is(err, unix.EEXIST):
		return nil
	case !add && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL)):
		return nil
	case errors.Is(err, unix.ENETDOWN):
		return &RejectedError{Where: what, Err: err, Hint: "lo is down: set it up first"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return &RejectedError{Where: what, Err: err, Hint: "IPv6 is off here: see net.ipv6.conf.lo.disable_ipv6"}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c *Conn) address(ctx context.Context, a netip.Prefix, add bool, added func()) error {
	const hostScope, noDAD = 254, 2 // RT_SCOPE_HOST, IFA_F_NODAD
	m := &rtnetlink.AddressMessage{
		Family:       family(a),
		PrefixLength: uint8(a.Bits()),
		Scope:        hostScope,
		Index:        rtnl.Loopback,
		Attributes:   &rtnetlink.AddressAttributes{Address: a.Addr().AsSlice(), Local: a.Addr().AsSlice(), Flags: noDAD},
	}
	payload, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%s: %w", addressText(a), err)
	}
	if add { // kernels before Linux 5.18 pass over it
		payload = attribute{typ: rtnl.AddressProtocol, data: []byte{reserved.RouteProtocol}}.appendTo(payload)
	}
	return c.change(ctx, add, unix.RTM_NEWADDR, netlink.Excl, payload, addressText(a), added)
}

func family(a netip.Prefix) uint8 { return uint8(rules.AddressFamily(a.Addr())) }

func (c *Conn) localRoute(ctx context.Context, r rules.Route, add bool, added func()) error {
	device, err := c.routeDevice(ctx, r)
	if !add && errors.Is(err, unix.ENODEV) {
		return nil // its routes went with it
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	m := &rtnetlink.RouteMessage{
		Family:     uint8(r.Family),
		DstLength:  uint8(r.Dst.Bits()),
		Protocol:   reserved.RouteProtocol,
		Type:       unix.RTN_LOCAL,
		Attributes: rtnetlink.RouteAttributes{Table: r.Table, OutIface: device, Priority: r.Metric()},
	}
	if r.Family == rules.IPv4 {
		m.Scope = unix.RT_SCOPE_HOST
	}
	if r.Dst.Bits() > 0 {
		m.Attributes.Dst = r.Dst.Addr().AsSlice()
	}
	payload, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	place := netlink.Excl
	if r.Device != "" { // routes that differ in their interface alone would be one
		place = netlink.Append
	}
	return c.change(ctx, add, unix.RTM_NEWROUTE, place, payload, r.String(), added)
}

// routeDevice is the index of the interface that the route is of.
func (c *Conn) routeDevice(ctx context.Context, r rules.Route) (uint32, error) {
	if r.Device == "" {
		return rtnl.Loopback, nil
	}
	return c.linkIndex(ctx, string(r.Device))
}

func (c *Conn) policyRule(ctx context.Context, r rules.PolicyRule, add bool, added func()) error {
	mark, mask, protocol := uint32(r.Mark), uint32(r.Mask), uint8(reserved.RouteProtocol)
	m := &rtnetlink.RuleMessage{
		Family: uint8(r.Family),
		Action: unix.FR_ACT_TO_TBL,
		Attributes: &rtnetlink.RuleAttributes{
			Priority: &r.Priority, FwMark: &mark, FwMask: &mask, Protocol: &protocol,
		},
	}
	if r.In != "" {
		m.Attributes.IIFName = &r.In
	}
	if r.Goto != 0 {
		m.Action, m.Attributes.Goto = unix.FR_ACT_GOTO, &r.Goto
	} else {
		m.Attributes.Table = &r.Table
	}
	payload, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return c.change(ctx, add, unix.RTM_NEWRULE, netlink.Excl, payload, r.String(), added)
}

// addressText is an address of the loopback interface in ip(8)'s words.
func addressText(a netip.Prefix) string {
	return rules.State{Addresses: []netip.Prefix{a}}.Routing()[0]
}
