package sim

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// Host is what of a namespace decides about packets beside its rulesets.
type Host struct {
	Links       []Link
	PolicyRules []PolicyRule // of the routing policy database, the kernel's own three included
	Routes      []Route
	Sockets     []Socket
	// Assumes is true of a host that nobody looked at: something listens,
	// transparently, wherever a rule hands packets to, and what live sets hold is
	// not known.
	Assumes bool
}

// Link is a network interface.
type Link struct {
	Name      string
	Index     rules.IfIndex
	Addresses []netip.Prefix // in the kernel's order
	ReversePath
	Forwards    []rules.Family // whose packets that come by it are passed on
	Localnet    bool           // 127.0.0.0/8 may come and leave by it (route_localnet)
	AcceptLocal bool           // this host's own addresses may come by it (accept_local)
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

// Lookup is a rule of the routing policy database, as far as packets are told
// apart by it here.
type PolicyRule struct {
	Family      rules.Family
	Priority    uint32
	Mark        rules.Mark
	Mask        rules.Mark
	From, To    netip.Prefix // not valid: any
	In          string       // "": any; lo is what is sent here
	Not         bool         // it takes what the above does not say
	Table       uint32
	Unsupported string // what it says that the model does not know
}

// Path is a route.
type Route struct {
	Table       uint32
	Dst         netip.Prefix
	Type        rules.AddrType // Unicast, Local, ...
	Out         string
	Src         netip.Addr // preferred; not valid: of the link
	Via         netip.Addr // the gateway, if it has one
	Metric      uint32
	Unsupported string
}

const defaultTable = 253 // RT_TABLE_DEFAULT, for IPv4 alone

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

// With is the namespace with the routing and the addresses of a state.
func (h Host) With(s rules.State) Host {
	h.PolicyRules, h.Routes = slices.Clone(h.PolicyRules), slices.Clone(h.Routes)
	for _, r := range s.PolicyRules {
		h.PolicyRules = append(h.PolicyRules, PolicyRule{Family: r.Family, Priority: r.Priority, Mark: r.Mark, Mask: r.Mask, Table: r.Table})
	}
	slices.SortStableFunc(h.PolicyRules, func(a, b PolicyRule) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, r := range s.Routes {
		h.Routes = append(h.Routes, Route{Table: r.Table, Dst: r.Dst, Type: rules.Local, Out: loopback})
	}
	for _, a := range s.Addresses {
		h = h.Plus(loopback, a)
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

// owns reports whether the address stands on an interface, as __ip_dev_find and
// ipv6_chk_addr of the kernel tell it.
func (h *Host) owns(a netip.Addr) bool {
	return h.addrType(a) == rules.Local
}

// addrType is the type of an address as fib tells it: by table local alone.
func (h *Host) addrType(a netip.Addr) rules.AddrType {
	switch {
	case a.IsMulticast():
		return rules.Multicast
	case a.Is4() && (a.As4()[0] == 0 || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})):
		return rules.Broadcast
	}
	if p, found := h.longest(rules.LocalTable, a); found {
		return p.Type
	}
	return rules.Unicast
}

// fibType is what the expression fib makes of an address of a packet, whose other
// address is what its rules take for the source (nft_fib4_eval_type,
// nft_fib6_eval_type): of IPv6 it follows the whole route. Where it does not know,
// it says why.
func (h *Host) fibType(a, other netip.Addr) (t rules.AddrType, strange string) {
	if t := h.addrType(a); a.Is4() || t == rules.Multicast {
		return t, ""
	}
	p, found := h.lookup(flow{src: other, dst: a})
	if !found {
		return unreachable, ""
	}
	return p.Type, p.Unsupported
}

const (
	anycast     rules.AddrType = 4
	blackhole   rules.AddrType = 6
	unreachable rules.AddrType = 7
	prohibit    rules.AddrType = 8
	throw       rules.AddrType = 9 // to the next policy rule
)

// flow is what a route is looked up by.
type flow struct {
	src, dst netip.Addr
	mark     rules.Mark
	in       string // "" is what is sent here
}

func (h *Host) lookup(f flow) (Route, bool) {
	family := rules.AddressFamily(f.dst)
	for i := range h.PolicyRules {
		l := &h.PolicyRules[i]
		if l.Family != family || !l.takes(f) {
			continue
		}
		if l.Unsupported != "" {
			return Route{Unsupported: l.Unsupported}, true
		}
		if p, found := h.longest(l.Table, f.dst); found && p.Type != throw {
			if p.Type == rules.Local && f.in == "" {
				p.Out = loopback // whatever interface has the address
			}
			return p, true
		}
	}
	return Route{}, false
}

// takes compares marks under the mask on both sides (fib_rule_match): a rule's mark
// may have bits outside of it.
func (l *PolicyRule) takes(f flow) bool {
	said := (f.mark^l.Mark)&l.Mask == 0 && (!l.From.IsValid() || l.From.Contains(f.src)) && (!l.To.IsValid() || l.To.Contains(f.dst)) &&
		(l.In == "" || l.In == cmp.Or(f.in, loopback))
	return said != l.Not
}

// longest is the route with the longest prefix, of those the least metric.
func (h *Host) longest(table uint32, dst netip.Addr) (Route, bool) {
	best := -1
	for i := range h.Routes {
		p := &h.Routes[i]
		if p.Table != table || !p.Dst.Contains(dst) {
			continue
		}
		if best < 0 || p.Dst.Bits() > h.Routes[best].Dst.Bits() ||
			p.Dst.Bits() == h.Routes[best].Dst.Bits() && p.Metric < h.Routes[best].Metric {
			best = i
		}
	}
	if best < 0 {
		return Route{}, false
	}
	return h.Routes[best], true
}

// source is the address that the kernel sends from by that route, if it has one.
func (h *Host) source(p Route, dst netip.Addr) (netip.Addr, bool) {
	switch {
	case p.Src.IsValid():
		return p.Src, true
	case dst.Is6():
		return h.source6(p.Out, dst)
	case p.Type == rules.Local:
		return dst, h.owns(dst) // of a route in a table other than local, an address that nobody has
	}
	return h.source4(p.Out, p.Via)
}

// source4 follows inet_select_addr of net/ipv4/devinet.c: the address in whose
// subnet the gateway is, else the link's first, else another link's.
func (h *Host) source4(out string, via netip.Addr) (netip.Addr, bool) {
	for _, l := range onlyLink(h.link(out)) {
		for _, a := range l.Addresses {
			if via.IsValid() && a.Contains(via) {
				return a.Addr(), true
			}
		}
	}
	for _, l := range append(onlyLink(h.link(out)), h.Links...) {
		for _, a := range l.Addresses {
			if a.Addr().Is4() && !a.Addr().IsLoopback() { // whose scope is this host
				return a.Addr(), true
			}
		}
	}
	return netip.Addr{}, false
}

func onlyLink(l *Link) []Link {
	if l == nil {
		return nil
	}
	return []Link{*l}
}

// source6 follows ipv6_get_saddr_eval of net/ipv6/addrconf.c (RFC 6724): the same
// address, one of a wide enough scope, of the link, of the longest common prefix.
func (h *Host) source6(out string, dst netip.Addr) (best netip.Addr, found bool) {
	var bestScore [4]int
	for _, l := range h.Links {
		for _, p := range l.Addresses {
			a := p.Addr()
			if !a.Is6() {
				continue
			}
			score := [4]int{b2i(a == dst), b2i(narrow(a) == narrow(dst) || !narrow(a)), b2i(l.Name == out), common(a, dst)}
			if !found || slices.Compare(score[:], bestScore[:]) > 0 {
				best, bestScore, found = a, score, true
			}
		}
	}
	return best, found
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// narrow reports whether the address is of a scope less than global.
func narrow(a netip.Addr) bool { return a.IsLoopback() || a.IsLinkLocalUnicast() }

// common is how many leading bits two addresses share.
func common(a, b netip.Addr) int {
	n := 0
	for n < a.BitLen() {
		p, err := a.Prefix(n + 1)
		if err != nil || !p.Contains(b) {
			break
		}
		n++
	}
	return n
}

// first is the link's first address of the family, which tproxy takes for its own.
func (l *Link) first(f rules.Family) (netip.Addr, bool) {
	return l.find(func(a netip.Addr) bool { return rules.AddressFamily(a) == f })
}

// redirects is the address of the link that redirect gives to what goes to dst: the
// first one, of IPv6 of dst's scope unless that is global (nf_nat_redirect_ipv4,
// nf_nat_redirect_ipv6_usable).
func (l *Link) redirects(dst netip.Addr) (netip.Addr, bool) {
	return l.find(func(a netip.Addr) bool {
		return a.Is4() == dst.Is4() && (dst.Is4() || scope6(dst) == globalScope || scope6(a) == scope6(dst))
	})
}

func (l *Link) find(usable func(netip.Addr) bool) (netip.Addr, bool) {
	if l == nil {
		return netip.Addr{}, false
	}
	for _, a := range l.Addresses {
		if usable(a.Addr()) {
			return a.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// Scopes of unicast addresses (ipv6_addr_scope), but for that of ::1, which comes by
// no link.
const (
	globalScope = iota
	linkScope
	siteScope
)

var siteLocal = netip.MustParsePrefix("fec0::/10")

func scope6(a netip.Addr) int {
	switch {
	case a.IsLinkLocalUnicast():
		return linkScope
	case siteLocal.Contains(a):
		return siteScope
	}
	return globalScope
}

// socket is the socket that a packet between the two is for: a connected one
// before one that listens on the address, before one that listens on all.
func (h *Host) socket(proto rules.Proto, remote, local netip.AddrPort) *Socket {
	var best *Socket
	rank := 0
	for i := range h.Sockets {
		s := &h.Sockets[i]
		if s.Proto != proto || s.Local.Port() != local.Port() || rules.AddressFamily(s.Local.Addr()) != rules.AddressFamily(local.Addr()) {
			continue
		}
		here := s.Local.Addr() == local.Addr()
		r := 0
		switch {
		case s.Remote == remote && here:
			r = 3
		case s.Remote.IsValid():
		case here:
			r = 2
		case s.Local.Addr().IsUnspecified():
			r = 1
		}
		if r > rank {
			best, rank = s, r
		}
	}
	return best
}
