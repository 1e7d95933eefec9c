// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// Host reads what decides about packets in the namespace beside its tables: links and
// addresses, the whole of its routing, its settings and its sockets.
func (n *Namespace) Host(ctx context.Context) (sim.Host, error) {
	h, err := n.Stack(ctx)
	if err == nil {
		h.Sockets, err = n.Sockets(ctx)
	}
	return h, err
}

// Stack is Host without the sockets, which take long to list where the machine has many.
func (n *Namespace) Stack(ctx context.Context) (sim.Host, error) {
	h, _, err := n.StackWith(ctx, nil)
	return h, err
}

// StackWith is Stack, of interfaces that the caller has read unless they are nil, and the
// policy rules as [Namespace.PolicyRules] lists them.
func (n *Namespace) StackWith(ctx context.Context, have *Interfaces) (h sim.Host, listed []PolicyRule, err error) {
	err = n.withRoute(ctx, func(s *nl.Socket) error {
		h = sim.Host{}
		if have != nil {
			h.Links = slices.Clone(have.Links)
		} else if all, err := interfaces(ctx, s); err != nil {
			return err
		} else {
			h.Links = all.Links
		}
		if listed, err = policyRules(ctx, s); err != nil {
			return err
		}
		for _, l := range listed {
			h.PolicyRules = append(h.PolicyRules, l.PolicyRule)
		}
		slices.SortStableFunc(h.PolicyRules, func(a, b sim.PolicyRule) int { return cmp.Compare(a.Priority, b.Priority) })
		if err := hostRoutes(ctx, s, &h); err != nil {
			return err
		}
		return hostForwards(ctx, s, &h)
	})
	if err == nil {
		err = n.Inside(func() error { return hostSettings(&h) })
	}
	return h, listed, err
}

func linkName(h *sim.Host, index uint32) string {
	for _, l := range h.Links {
		if uint32(l.Index) == index {
			return l.Name
		}
	}
	return ""
}

// livePrefix is a prefix that rtnetlink listed, not valid where there is no address.
func livePrefix(addr []byte, bits byte) netip.Prefix {
	a, ok := netip.AddrFromSlice(addr)
	if !ok {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(bits))
}

// hostRoutes dumps the routes of every table.
func hostRoutes(ctx context.Context, s *nl.Socket, h *sim.Host) error {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		err := rtnl.Each(ctx, s, unix.RTM_GETROUTE, byte(f), rtnl.RouteHeader, "routes", func(data []byte) error {
			p, err := liftRoute(f, data, h)
			h.Routes = append(h.Routes, p)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func liftRoute(f rules.Family, data []byte, h *sim.Host) (sim.Route, error) {
	a, err := nl.Decode(data[rtnl.RouteHeader:])
	if err != nil {
		return sim.Route{}, err
	}
	const dstLen, srcLen, tos, table, typ = 1, 2, 3, 4, 7
	p := sim.Route{Table: uint32(data[table]), Type: rules.AddrType(data[typ]), Metric: a.Native32(unix.RTA_PRIORITY),
		Out: linkName(h, a.Native32(unix.RTA_OIF)), Dst: livePrefix(a.Take(unix.RTA_DST), data[dstLen])}
	if !p.Dst.IsValid() {
		p.Dst = netip.PrefixFrom(map[rules.Family]netip.Addr{rules.IPv4: netip.IPv4Unspecified(), rules.IPv6: netip.IPv6Unspecified()}[f], 0)
	}
	if own := a.Take(unix.RTA_TABLE); own != nil {
		p.Table = nl.Native32(own)
	}
	if src, ok := netip.AddrFromSlice(a.Take(unix.RTA_PREFSRC)); ok {
		p.Src = src
	}
	if via, ok := netip.AddrFromSlice(a.Take(unix.RTA_GATEWAY)); ok {
		p.Via = via
	}
	nowhere := p.Type == rules.Unicast && p.Out == "" // a nexthop object
	if nowhere || a.Has(unix.RTA_MULTIPATH) || a.Has(unix.RTA_ENCAP) || data[srcLen] != 0 || data[tos] != 0 {
		p.Unsupported = fmt.Sprintf("the route to %s in table %d says more than weir knows of", p.Dst, p.Table)
	}
	return p, nil
}

// hostForwards reads whether each link's packets are passed on, and how strict it
// is about where a packet comes from, by netlink: there may be no /proc.
func hostForwards(ctx context.Context, s *nl.Socket, h *sim.Host) error {
	const ifindex, forwarding, rpFilter, all = 1, 2, 3, ^uint32(0) // NETCONFA_* of linux/netconf.h
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		strict, forwards := map[uint32]uint32{}, map[uint32]bool{}
		err := rtnl.Each(ctx, s, unix.RTM_GETNETCONF, byte(f), rtnl.NetconfHeader, "network settings", func(data []byte) error {
			a, err := nl.Decode(data[rtnl.NetconfHeader:])
			index := a.Native32(ifindex)
			forwards[index] = a.Native32(forwarding) != 0
			strict[index] = a.Native32(rpFilter)
			return err
		})
		if err != nil {
			return err
		}
		for i := range h.Links {
			l := &h.Links[i]
			decides := all // of IPv6; of IPv4 each link's own
			if f == rules.IPv4 {
				decides = uint32(l.Index)
				l.ReversePath = sim.ReversePath(max(strict[all], strict[decides]))
			}
			if forwards[decides] {
				l.Forwards = append(l.Forwards, f)
			}
		}
	}
	return nil
}
