// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// Host is what decides about packets in a namespace beside its rulesets.
type Host struct {
	Links       []Link
	PolicyRules []PolicyRule // of the routing policy database, the kernel's own three included
	Routes      []Route
	Sockets     []Socket
	// Assumes is true of a host whose sockets were not read: something listens,
	// transparently, wherever a rule hands packets to, and what live sets hold is
	// not known, but that dynamic ones hold what packets added.
	Assumes bool
	// Proxy is what such a listener is like: its owner and its mark.
	Proxy Socket
}

// Link is a network interface.
type Link struct {
	Name      string
	Index     rules.IfIndex
	Down      bool           // it is not up; its routes are gone with that
	Port      bool           // it is a port of a bridge or another master, by which its packets come in
	Addresses []netip.Prefix // in the kernel's order
	ReversePath
	Forwards    []rules.Family // whose packets that come by it are passed on
	Localnet    bool           // 127.0.0.0/8 may come and leave by it (route_localnet)
	AcceptLocal bool           // this host's own addresses may come by it (accept_local)
	SourceMark  bool           // the way back is looked up by the packet's mark (src_valid_mark)
}

// ReversePath is how a link looks at where IPv4 packets come from, as the sysctl
// rp_filter numbers it.
type ReversePath uint32

// Reverse path filters.
const (
	AnyPath    ReversePath = iota
	StrictPath             // the route back is by the link,
	LoosePath              // or by some link
)

const loopback = "lo"

// NewHost is a namespace with those links and the routes that the kernel makes
// for their addresses. It adds lo where it is missing.
func NewHost(links ...Link) Host {
	if !slices.ContainsFunc(links, func(l Link) bool { return l.Name == loopback }) {
		lo := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}
		links = append([]Link{{Name: loopback, Index: 1, Addresses: lo}}, links...)
	}
	var h Host
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		h.PolicyRules = append(h.PolicyRules,
			PolicyRule{Family: f, Priority: 0, Table: rules.LocalTable},
			PolicyRule{Family: f, Priority: 32766, Table: rules.MainTable})
	}
	h.PolicyRules = append(h.PolicyRules, PolicyRule{Family: rules.IPv4, Priority: 32767, Table: defaultTable})
	for _, l := range links {
		if l.Index == 0 {
			l.Index = rules.IfIndex(len(h.Links) + 1)
		}
		h.Links = append(h.Links, Link{Name: l.Name, Index: l.Index})
		for _, a := range l.Addresses {
			h = h.address(l.Name, a)
		}
	}
	return h
}

// address adds an address, and the routes that the kernel adds with it.
func (h Host) address(link string, a netip.Prefix) Host {
	own := netip.PrefixFrom(a.Addr(), a.Addr().BitLen())
	h.Links = slices.Clone(h.Links)
	for i, l := range h.Links {
		if l.Name == link {
			h.Links[i].Addresses = append(slices.Clone(l.Addresses), a)
		}
	}
	h.Routes = append(slices.Clone(h.Routes), Route{Table: rules.LocalTable, Dst: own, Type: rules.Local, Out: link, Src: a.Addr()})
	if a == own {
		return h
	}
	subnet := Route{Table: rules.MainTable, Dst: a.Masked(), Type: rules.Unicast, Out: link, Src: a.Addr()}
	if a.Addr().IsLoopback() {
		subnet.Table, subnet.Type = rules.LocalTable, rules.Local
	}
	h.Routes = append(h.Routes, subnet)
	if a.Addr().Is4() && !a.Addr().IsLoopback() && a.Bits() < 31 {
		last := netip.AddrFrom4([4]byte([]byte(rules.RangeOf(a).Hi)))
		h.Routes = append(h.Routes, Route{Table: rules.LocalTable, Dst: netip.PrefixFrom(last, 32), Type: rules.Broadcast, Out: link, Src: a.Addr()})
	}
	return h
}

// With is the namespace with the routing and the addresses of a state, and a proxy that marks its
// sockets where the state tells it by that.
func (h Host) With(s rules.State) Host {
	h.PolicyRules, h.Routes = slices.Clone(h.PolicyRules), slices.Clone(h.Routes)
	for _, r := range s.PolicyRules {
		h.PolicyRules = append(h.PolicyRules, PolicyRule{Family: r.Family, Priority: r.Priority, Mark: r.Mark, Mask: r.Mask, In: r.In, Table: r.Table, Goto: r.Goto})
	}
	slices.SortStableFunc(h.PolicyRules, func(a, b PolicyRule) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, r := range s.Routes {
		h.Routes = append(h.Routes, Route{Table: r.Table, Dst: r.Dst, Type: rules.Local, Out: cmp.Or(string(r.Device), loopback), Metric: r.Metric()})
	}
	for _, a := range s.Addresses {
		h = h.Plus(loopback, a)
	}
	if s.Untracked {
		h.Proxy.Mark = s.ProxyMark
	}
	return h
}

// Has reports whether the host has the interface, and the address on any.
func (h *Host) Has(link string, a netip.Addr) bool { return h.link(link) != nil && h.owns(a) }

// Plus is the host with one more address on an interface, which may be a new one.
func (h Host) Plus(link string, a netip.Prefix) Host {
	if h.link(link) == nil {
		h.Links = append(slices.Clone(h.Links), Link{Name: link, Index: rules.IfIndex(len(h.Links) + 1)})
	}
	if h.owns(a.Addr()) {
		return h
	}
	return h.address(link, a)
}

func (h *Host) link(name string) *Link {
	for i := range h.Links {
		if h.Links[i].Name == name {
			return &h.Links[i]
		}
	}
	return nil
}

func (h *Host) forwards(link string, f rules.Family) bool {
	l := h.link(link)
	return l != nil && slices.Contains(l.Forwards, f)
}

func (h *Host) localnet(link string) bool {
	l := h.link(link)
	return l != nil && l.Localnet
}

func (h *Host) acceptsLocal(link string) bool {
	l := h.link(link)
	return l != nil && l.AcceptLocal
}
