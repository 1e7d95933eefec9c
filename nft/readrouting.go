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
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// readRouting dumps the policy rules, our routes and those of the wanted
// tables, and the addresses of the loopback interface. What the tags of tables
// of other tables than weir's tell of is theirs.
func (c *Conn) readRouting(ctx context.Context, wanted rules.State, otherTags []*Tag) (routing, error) {
	var r routing
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if err := c.policyRules(ctx, f, &r); err != nil {
			return r, err
		}
		if err := c.routes(ctx, f, routeFilter{protocol: reserved.RouteProtocol}, &r); err != nil {
			return r, err
		}
	}
	for i, w := range wanted.Routes {
		if slices.ContainsFunc(wanted.Routes[:i], func(o rules.Route) bool { return o.Family == w.Family && o.Table == w.Table }) {
			continue // listed already
		}
		if err := c.routes(ctx, w.Family, routeFilter{table: w.Table}, &r); err != nil {
			return r, err
		}
	}
	var err error
	r.addresses, err = c.loopbackAddresses(ctx)
	for _, tag := range otherTags {
		r.leave(tag)
	}
	return r, err
}

// leave takes what another table's tag tells of for another's.
func (r *routing) leave(tag *Tag) {
	for i, l := range r.policyRules {
		r.policyRules[i].ours = l.ours && !slices.Contains(tag.Routing, l.PolicyRule.String())
	}
	for i, l := range r.routes {
		r.routes[i].ours = l.ours && !slices.Contains(tag.Routing, l.Route.String())
	}
	for i, a := range r.addresses {
		r.addresses[i].ours = a.ours && !slices.Contains(tag.Added, a.Prefix)
	}
}

// policyRules dumps the rules of one family that look up a table by mark. The
// rtnetlink library refuses rules with attributes that it does not know, which
// others may have: they are decoded here.
func (c *Conn) policyRules(ctx context.Context, f rules.Family, into *routing) error {
	return rtnl.Each(ctx, c.route, unix.RTM_GETRULE, byte(f), rtnl.RuleHeader, "policy rules", func(data []byte) error {
		a, err := nl.Decode(data[rtnl.RuleHeader:])
		r, plain := liftPolicyRule(f, data[:rtnl.RuleHeader], a)
		switch {
		case err != nil:
			return err
		case plain:
			into.policyRules = append(into.policyRules, r)
		case r.ours:
			into.odd = append(into.odd, oddity{"policy rule", r.String() + ", with more to it", unix.RTM_NEWRULE, data})
		}
		return nil
	})
}

// liftPolicyRule lifts a rule; plain is false for one that does not say a mark
// and a table alone.
func liftPolicyRule(f rules.Family, header []byte, a nl.Attributes) (r liveRule, plain bool) {
	r = liveRule{PolicyRule: rules.PolicyRule{
		Family:   f,
		Priority: a.Native32(unix.FRA_PRIORITY),
		Mark:     rules.Mark(a.Native32(unix.FRA_FWMARK)),
		Mask:     rules.Mark(a.Native32(unix.FRA_FWMASK)),
		Table:    a.Native32(unix.FRA_TABLE),
		In:       a.Text(unix.FRA_IIFNAME),
		Goto:     a.Native32(unix.FRA_GOTO),
	}}
	protocol := a.Take(unix.FRA_PROTOCOL)
	r.ours = len(protocol) == 1 && protocol[0] == reserved.RouteProtocol
	suppress := a.Take(unix.FRA_SUPPRESS_PREFIXLEN) // told always, -1 for none
	const action, flags = 7, 8
	does := byte(unix.FR_ACT_TO_TBL)
	if r.Goto != 0 {
		does = unix.FR_ACT_GOTO
	}
	return r, a.AllTaken() && (suppress == nil || ^nl.Native32(suppress) == 0) && (r.Mask != 0 || r.ours) && nl.Native32(header[flags:]) == 0 &&
		header[1] == 0 && header[2] == 0 && header[3] == 0 && header[action] == does
}

type routeFilter struct {
	protocol uint8
	table    uint32
}

// routes dumps the routes that the filter names: those that deliver locally,
// and what else carries weir's protocol number.
func (c *Conn) routes(ctx context.Context, f rules.Family, filter routeFilter, into *routing) error {
	request := rtnetlink.RouteMessage{Family: uint8(f), Protocol: filter.protocol, Attributes: rtnetlink.RouteAttributes{Table: filter.table}}
	payload, err := request.MarshalBinary()
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	msgs, err := dump(ctx, c.route, unix.RTM_GETROUTE, payload)
	if rtnl.Absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, m := range msgs {
		var r rtnetlink.RouteMessage
		if err := r.UnmarshalBinary(m.Data); err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		ours := r.Protocol == reserved.RouteProtocol
		if r.Family != uint8(f) || ours != (filter.protocol == reserved.RouteProtocol) {
			continue
		}
		route, plain, err := c.liftRoute(ctx, f, r)
		switch {
		case errors.Is(err, unix.ENODEV): // its routes went with it
		case err != nil:
			return fmt.Errorf("list routes: %w", err)
		case plain:
			into.routes = append(into.routes, liveRoute{route, ours})
		case ours:
			text := fmt.Sprintf("another route of %s to %s in table %d", f, route.Dst, route.Table)
			into.odd = append(into.odd, oddity{"route", text, unix.RTM_NEWROUTE, m.Data})
		}
	}
	return nil
}

// liftRoute lifts a route; plain is false for one that is not as [Conn.localRoute] adds it.
func (c *Conn) liftRoute(ctx context.Context, f rules.Family, r rtnetlink.RouteMessage) (out rules.Route, plain bool, err error) {
	out = rules.Route{Family: f, Table: routeTable(r), Dst: routeDst(r)}
	if !deliversLocally(r) || r.Attributes.OutIface == rtnl.Loopback {
		return out, deliversLocally(r), nil
	}
	name, err := c.linkName(ctx, r.Attributes.OutIface)
	out.Device = rules.IfName(name)
	return out, err == nil, err
}

// deliversLocally reports whether the route is `local ...` with the metric of those that weir
// adds, and no more.
func deliversLocally(r rtnetlink.RouteMessage) bool {
	usual, a := uint32(0), r.Attributes
	switch {
	case a.OutIface != rtnl.Loopback:
		usual = rules.Route{Device: "another"}.Metric()
	case r.Family == unix.AF_INET6:
		usual = 1024 // IP6_RT_PRIO_USER of linux/ipv6_route.h
	}
	return r.Type == unix.RTN_LOCAL && a.Priority == usual && r.Tos == 0 && r.SrcLength == 0 &&
		a.Gateway == nil && a.Src == nil && a.Multipath == nil
}

func routeTable(r rtnetlink.RouteMessage) uint32 {
	if r.Attributes.Table != 0 {
		return r.Attributes.Table
	}
	return uint32(r.Table)
}

func routeDst(r rtnetlink.RouteMessage) netip.Prefix {
	addr, ok := netip.AddrFromSlice(r.Attributes.Dst)
	if !ok {
		addr = netip.IPv4Unspecified()
		if r.Family == unix.AF_INET6 {
			addr = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(addr.Unmap(), int(r.DstLength))
}

func (c *Conn) loopbackAddresses(ctx context.Context) ([]liveAddress, error) {
	all, err := rtnl.Addresses(ctx, c.route, rtnl.Loopback)
	if err != nil {
		return nil, err
	}
	var out []liveAddress
	for _, a := range all {
		if a.Index == rtnl.Loopback {
			out = append(out, liveAddress{a.Prefix, a.Protocol == reserved.RouteProtocol || slices.Contains(c.added, a.Prefix)})
		}
	}
	return out, nil
}
