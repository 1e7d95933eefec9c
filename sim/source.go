// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// source is the address that the kernel sends from by that route, if it has one.
func (h *Host) source(p Route, dst netip.Addr) (netip.Addr, bool) {
	switch {
	case p.Src.IsValid():
		return p.Src, true
	case dst.Is6():
		return h.source6(p.Out, dst)
	case p.Type == rules.Local:
		return dst, h.owns(dst) // of a route in a table other than local, an address of no interface
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
