// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// fib is a lookup of an address of the packet, as nftables' expression of that name
// makes it.
type fib struct {
	address, other netip.Addr // what is looked up, and what policy rules take for the source
	source         bool       // the address is where the packet comes from
	mark           rules.Mark // 0 where it is not taken into account
	in             bool       // the interface by which it came is taken into account
	device         string     // that interface, or the one by which it leaves; "": any, or none is known
}

// readFib is what a Fib selector reads. The rule ends where the route is one that the
// model does not know.
func (w *walk) readFib(address rules.FibAddr, kind rules.Selector, by rules.FibFlag) (rules.Bits, bool) {
	f := fib{address: w.packet.Src.Addr(), other: w.packet.Dst.Addr(), source: true}
	if address == rules.FibDaddr {
		f = fib{address: f.other, other: f.address}
	}
	if by&rules.FibMark != 0 {
		f.mark = w.packet.Mark
	}
	f.in = by&rules.FibIIf != 0
	switch {
	case f.in:
		f.device = w.in
	case by&rules.FibOIf != 0:
		f.device = w.out
	}
	var t rules.AddrType
	var link, strange string
	if kind == address.Type().Selector() {
		t, strange = w.fibType(f)
	} else {
		link, strange = w.fibLink(f)
	}
	if strange != "" {
		w.end(Unknown, "%s", strange)
		return "", false
	}
	switch kind {
	case address.OIf().Selector():
		return rules.RangeOf(w.host.index(link)).Lo, true
	case address.OIfName().Selector():
		return exactName(link), true
	case address.Type().Selector():
		return rules.RangeOf(t).Lo, true
	}
	if link == "" {
		return rules.RangeOf(rules.Missing).Lo, true
	}
	return rules.RangeOf(rules.Exists).Lo, true
}

// fibType is the type of the address (nft_fib4_eval_type, nft_fib6_eval_type): of IPv4
// by table local alone, of IPv6 by the whole route. With an interface what is not
// local there is not local. Where it does not know, it says why.
func (w *walk) fibType(f fib) (t rules.AddrType, strange string) {
	if f.address.Is4() {
		return w.host.addrTypeOn(f.device, f.address), ""
	}
	p, found := w.host.lookup(w.fibFlow(f))
	switch {
	case !found:
		return unreachable, ""
	case p.Unsupported != "":
		return 0, p.Unsupported
	case p.Type != rules.Local && p.Type != rules.Unicast && p.Type != rules.Multicast:
		return p.Type, ""
	case f.device == "" && p.Type == rules.Local, f.device != "" && w.host.link(f.device).has(f.address):
		return rules.Local, ""
	case f.address.IsMulticast():
		return rules.Multicast, ""
	}
	return rules.Unicast, ""
}

// fibLink is the interface by which the route to the address leads, "" where it has
// none, is local, or leads elsewhere than by the interface that is asked for
// (nft_fib4_eval, nft_fib6_eval).
func (w *walk) fibLink(f fib) (link, strange string) {
	if w.fibSkips() {
		return w.in, ""
	}
	p, found := w.host.lookup(w.fibFlow(f))
	switch {
	case !found, p.Unsupported == "" && (p.Type == rules.Local || p.Type == blackhole || p.Type == unreachable || p.Type == prohibit):
		return "", ""
	case p.Unsupported != "":
		return "", p.Unsupported
	case p.Type == anycast && f.address.Is6(), f.device != "" && p.Out != f.device:
		return "", ""
	}
	return p.Out, ""
}

// fibSkips reports whether the interface by which the packet came is taken to be right
// without a lookup (nft_fib_can_skip): what its socket received before came by it too, or
// it has no socket and came by lo. Kernels from before 2025 go by lo alone, and skip
// nothing in input.
func (w *walk) fibSkips() bool {
	switch {
	case w.hook != rules.Prerouting && w.hook != rules.Input:
		return false
	case w.sender != nil || w.proxied:
		return w.sender != nil && w.sender.Remote.IsValid() && w.sender.Proto == rules.TCP
	}
	return w.in == loopback
}

// fibFlow is what the route is looked up by: as what is sent here, but for where a
// forwarded packet came from.
func (w *walk) fibFlow(f fib) flow {
	out := flow{src: f.other, dst: f.address, mark: f.mark, in: loopback}
	switch {
	case f.address.Is4() && f.source && f.in && w.hook == rules.Forward:
		out.in = w.out
	case f.address.Is6() && f.address.IsLinkLocalUnicast():
		out.out = firstOf(f.device, w.in, w.out)
	}
	return out
}

func firstOf(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}

// addrTypeOn is the type of an IPv4 address as an interface has it: unicast for what
// table local says of another one (inet_dev_addr_type).
func (h *Host) addrTypeOn(device string, a netip.Addr) rules.AddrType {
	if t := h.addrType(a); device == "" || t == rules.Multicast {
		return t
	}
	switch p, found := h.longest(rules.LocalTable, a, ""); {
	case !found:
		return h.addrType(a)
	case p.Out != device:
		return rules.Unicast
	default:
		return p.Type
	}
}

// has reports whether the address stands on the link.
func (l *Link) has(a netip.Addr) bool {
	_, found := l.find(func(own netip.Addr) bool { return own == a })
	return found
}

func (h *Host) index(link string) rules.IfIndex {
	if l := h.link(link); l != nil {
		return l.Index
	}
	return 0
}
