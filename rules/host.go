package rules

import (
	"cmp"
	"net/netip"
	"slices"
)

// Host is what of a namespace decides about packets beside its rulesets.
type Host struct {
	Links   []Link
	Lookups []Lookup // of the routing policy database, the kernel's own three included
	Paths   []Path
	Sockets []Socket
	// Assumes is true of a host that nobody looked at: something listens,
	// transparently, wherever a rule hands packets to, and what live sets hold is
	// not known.
	Assumes bool
}

// Link is a network interface.
type Link struct {
	Name      string
	Index     IfIndex
	Addresses []netip.Prefix // in the kernel's order
	ReversePath
	Forwards    []Family // whose packets that come by it are passed on
	Localnet    bool     // 127.0.0.0/8 may come and leave by it (route_localnet)
	AcceptLocal bool     // this host's own addresses may come by it (accept_local)
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
type Lookup struct {
	Family   Family
	Priority uint32
	Mark     Mark
	Mask     Mark
	From, To netip.Prefix // not valid: any
	In       string       // "": any; lo is what is sent here
	Not      bool         // it takes what the above does not say
	Table    uint32
	Strange  string // what it says that the model does not know
}

// Path is a route.
type Path struct {
	Table   uint32
	Dst     netip.Prefix
	Type    AddrType // Unicast, Local, ...
	Out     string
	Src     netip.Addr // preferred; not valid: of the link
	Via     netip.Addr // the gateway, if it has one
	Metric  uint32
	Strange string
}

// The tables of every namespace, RT_TABLE_* of linux/rtnetlink.h.
const (
	localTable   = 255
	mainTable    = 254
	defaultTable = 253
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
	for _, f := range []Family{IPv4, IPv6} {
		h.Lookups = append(h.Lookups,
			Lookup{Family: f, Priority: 0, Table: localTable},
			Lookup{Family: f, Priority: 32766, Table: mainTable})
	}
	h.Lookups = append(h.Lookups, Lookup{Family: IPv4, Priority: 32767, Table: defaultTable})
	for _, l := range links {
		if l.Index == 0 {
			l.Index = IfIndex(len(h.Links) + 1)
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
	h.Paths = append(slices.Clone(h.Paths), Path{Table: localTable, Dst: own, Type: Local, Out: link, Src: a.Addr()})
	if a == own {
		return h
	}
	subnet := Path{Table: mainTable, Dst: a.Masked(), Type: Unicast, Out: link, Src: a.Addr()}
	if a.Addr().IsLoopback() {
		subnet.Table, subnet.Type = localTable, Local
	}
	h.Paths = append(h.Paths, subnet)
	if a.Addr().Is4() && !a.Addr().IsLoopback() && a.Bits() < 31 {
		last := netip.AddrFrom4([4]byte([]byte(Span(a).Hi)))
		h.Paths = append(h.Paths, Path{Table: localTable, Dst: netip.PrefixFrom(last, 32), Type: Broadcast, Out: link, Src: a.Addr()})
	}
	return h
}

// With is the namespace with the routing and the addresses of a state.
func (h Host) With(s State) Host {
	h.Lookups, h.Paths = slices.Clone(h.Lookups), slices.Clone(h.Paths)
	for _, r := range s.PolicyRules {
		h.Lookups = append(h.Lookups, Lookup{Family: r.Family, Priority: r.Priority, Mark: r.Mark, Mask: r.Mask, Table: r.Table})
	}
	slices.SortStableFunc(h.Lookups, func(a, b Lookup) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, r := range s.Routes {
		h.Paths = append(h.Paths, Path{Table: r.Table, Dst: r.Dst, Type: Local, Out: loopback})
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
		h.Links = append(slices.Clone(h.Links), Link{Name: link, Index: IfIndex(len(h.Links) + 1)})
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

func (h *Host) forwards(link string, f Family) bool {
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
	return h.addrType(a) == Local
}

// addrType is the type of an address as fib tells it: by table local alone.
func (h *Host) addrType(a netip.Addr) AddrType {
	switch {
	case a.IsMulticast():
		return Multicast
	case a.Is4() && (a.As4()[0] == 0 || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})):
		return Broadcast
	}
	if p, found := h.longest(localTable, a); found {
		return p.Type
	}
	return Unicast
}

// fibType is what the expression fib makes of an address of a packet, whose other
// address is what its rules take for the source (nft_fib4_eval_type,
// nft_fib6_eval_type): of IPv6 it follows the whole route. Where it does not know,
// it says why.
func (h *Host) fibType(a, other netip.Addr) (t AddrType, strange string) {
	if t := h.addrType(a); a.Is4() || t == Multicast {
		return t, ""
	}
	p, found := h.lookup(flow{src: other, dst: a})
	if !found {
		return unreachable, ""
	}
	return p.Type, p.Strange
}

const (
	anycast     AddrType = 4
	blackhole   AddrType = 6
	unreachable AddrType = 7
	prohibit    AddrType = 8
	throw       AddrType = 9 // to the next policy rule
)

// flow is what a route is looked up by.
type flow struct {
	src, dst netip.Addr
	mark     Mark
	in       string // "" is what is sent here
}

func (h *Host) lookup(f flow) (Path, bool) {
	family := AddressFamily(f.dst)
	for i := range h.Lookups {
		l := &h.Lookups[i]
		if l.Family != family || !l.takes(f) {
			continue
		}
		if l.Strange != "" {
			return Path{Strange: l.Strange}, true
		}
		if p, found := h.longest(l.Table, f.dst); found && p.Type != throw {
			if p.Type == Local && f.in == "" {
				p.Out = loopback // whatever interface has the address
			}
			return p, true
		}
	}
	return Path{}, false
}

// takes compares marks under the mask on both sides (fib_rule_match): a rule's mark
// may have bits outside of it.
func (l *Lookup) takes(f flow) bool {
	said := (f.mark^l.Mark)&l.Mask == 0 && (!l.From.IsValid() || l.From.Contains(f.src)) && (!l.To.IsValid() || l.To.Contains(f.dst)) &&
		(l.In == "" || l.In == cmp.Or(f.in, loopback))
	return said != l.Not
}

// longest is the route with the longest prefix, of those the least metric.
func (h *Host) longest(table uint32, dst netip.Addr) (Path, bool) {
	best := -1
	for i := range h.Paths {
		p := &h.Paths[i]
		if p.Table != table || !p.Dst.Contains(dst) {
			continue
		}
		if best < 0 || p.Dst.Bits() > h.Paths[best].Dst.Bits() ||
			p.Dst.Bits() == h.Paths[best].Dst.Bits() && p.Metric < h.Paths[best].Metric {
			best = i
		}
	}
	if best < 0 {
		return Path{}, false
	}
	return h.Paths[best], true
}

// source is the address that the kernel sends from by that route, if it has one.
func (h *Host) source(p Path, dst netip.Addr) (netip.Addr, bool) {
	switch {
	case p.Src.IsValid():
		return p.Src, true
	case dst.Is6():
		return h.source6(p.Out, dst)
	case p.Type == Local:
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
func (l *Link) first(f Family) (netip.Addr, bool) {
	return l.find(func(a netip.Addr) bool { return AddressFamily(a) == f })
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
func (h *Host) socket(proto Proto, remote, local netip.AddrPort) *Socket {
	var best *Socket
	rank := 0
	for i := range h.Sockets {
		s := &h.Sockets[i]
		if s.Proto != proto || s.Local.Port() != local.Port() || AddressFamily(s.Local.Addr()) != AddressFamily(local.Addr()) {
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
