// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

func (w *walk) redirect(r rules.Redirect) (rules.Verdict, bool) {
	c := w.track.Connection
	if c == nil {
		return rules.Verdict{}, false // no nat chain, where conntrack has seen every packet
	}
	to, found := netip.Addr{}, true
	switch {
	case w.hook != rules.Output:
		to, found = w.host.link(w.in).redirects(w.packet.Dst.Addr())
		if dst := w.packet.Dst.Addr(); !found && w.host.Assumes && dst.Is6() && dst.IsLinkLocalUnicast() {
			to, found = dst, true // every link has such an address, though none is assumed
		}
	case w.packet.Family() == rules.IPv4:
		to = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		to = netip.IPv6Loopback()
	}
	w.did(r)
	if !found {
		w.end(Dropped, "%s has no address to redirect to", w.in)
		return rules.Accept(), true
	}
	port := rules.Port(w.packet.Dst.Port())
	if r.Ports != nil {
		if p := rules.RangeOf(port).Lo; p < r.Ports.Lo || r.Ports.Hi < p {
			port = rules.Port(r.Ports.Lo.Uint64())
		}
	}
	c.To, c.dstDone = netip.AddrPortFrom(to, uint16(port)), true
	return rules.Accept(), true
}

func (w *walk) snat(n rules.SNAT) (rules.Verdict, bool) {
	c := w.track.Connection
	if c == nil {
		return rules.Verdict{}, false // no nat chain
	}
	c.From, c.srcDone = netip.AddrPortFrom(n.To, c.Src.Port()), true
	w.did(n)
	return rules.Accept(), true
}

func (w *walk) dnat(n rules.DNAT) (rules.Verdict, bool) {
	c := w.track.Connection
	if c == nil {
		return rules.Verdict{}, false // no nat chain
	}
	port := n.Port
	if port == 0 {
		port = rules.Port(w.packet.Dst.Port())
	}
	c.To, c.dstDone = netip.AddrPortFrom(n.To, uint16(port)), true
	w.did(n)
	return rules.Accept(), true
}

// tproxy follows nft_tproxy_eval: without a transparent socket to give the
// packet to, the rule ends.
func (w *walk) tproxy(t rules.TProxy) (rules.Verdict, bool) {
	p := &w.packet
	if p.Proto != rules.TCP && p.Proto != rules.UDP || t.Family != 0 && t.Family != p.Family() {
		return rules.Verdict{}, false
	}
	port := t.Port
	if port == 0 {
		port = rules.Port(p.Dst.Port())
	}
	addr, ok := netip.AddrFromSlice([]byte(t.Addr))
	if !ok {
		addr, ok = w.host.link(w.in).first(p.Family())
	}
	if !ok {
		addr = p.Dst.Addr()
	}
	s := w.host.socket(p.Proto, p.Src, p.Dst)
	connected := s != nil && s.Remote.IsValid()
	if !connected { // one that takes new connections
		s = w.host.socket(p.Proto, netip.AddrPort{}, netip.AddrPortFrom(addr, uint16(port)))
	}
	switch {
	case connected && !s.Transparent:
		w.kernel("not for a proxy: %s finds the connection's own socket, which is not transparent", text(t))
		return rules.Verdict{}, false
	case s == nil && !w.host.Assumes || s != nil && !s.Transparent:
		w.kernel("no listener: %s finds no transparent socket", text(t))
		return rules.Verdict{}, false
	case connected:
		port = rules.Port(s.Local.Port())
	}
	w.did(t)
	w.handsOn, w.proxied, w.taken, w.sender, w.port = true, true, s, s, port
	return rules.Verdict{}, true
}

// assign to the connection does nothing before conntrack has
// seen the packet; a zone is set no more after (nft_ct_set_zone_eval).
func (w *walk) assign(a rules.Assign) (rules.Verdict, bool) {
	value := a.Xor
	if a.From != 0 {
		from, ok := w.read(a.From)
		if !ok {
			return rules.Verdict{}, false
		}
		value = from.And(a.Mask).Xor(a.Xor)
	}
	switch c := w.track.Connection; {
	case a.To == rules.Selector(rules.MetaMark):
		w.packet.Mark = rules.Mark(value.Uint64())
	case a.To == rules.Selector(rules.CTMark) && c != nil:
		c.Mark = rules.Mark(value.Uint64())
	case (a.To == rules.Selector(rules.CTZone) || a.To == rules.Selector(rules.CTOriginalZone)) && c == nil && !w.track.template:
		w.track = tracking{template: true, zones: zones{original: rules.Zone(value.Uint64())}}
		if a.To == rules.Selector(rules.CTZone) {
			w.track.zones.reply = w.track.zones.original
		}
	case a.To.Family() != 0 || a.To.Proto() != 0:
		if !w.rewrite(a.To, value) {
			return rules.Verdict{}, false
		}
	default:
		return rules.Verdict{}, true
	}
	w.did(a)
	return rules.Verdict{}, true
}

// reject ends the packet. What answers it is a packet of the kernel's, which goes its own way.
func (w *walk) reject(n rules.Reject) (rules.Verdict, bool) {
	how := "with a TCP reset, by a rule"
	switch {
	case n.Unreachable:
		how = "with an ICMP error, by a rule"
	case w.packet.Proto != rules.TCP:
		return rules.Verdict{}, false
	}
	w.did(n)
	w.end(Rejected, "%s", how)
	return rules.Verdict{}, true
}

// rewrite writes a field of the packet's headers.
func (w *walk) rewrite(to rules.Selector, value rules.Bits) bool {
	p := &w.packet
	if f, proto := to.Family(), to.Proto(); f != 0 && f != p.Family() || proto != 0 && proto != p.Proto {
		return false
	}
	addr, _ := netip.AddrFromSlice([]byte(value))
	switch port := uint16(value.Uint64()); to {
	case rules.Selector(rules.IPSaddr), rules.Selector(rules.IP6Saddr):
		p.Src = netip.AddrPortFrom(addr, p.Src.Port())
	case rules.Selector(rules.IPDaddr), rules.Selector(rules.IP6Daddr):
		p.Dst = netip.AddrPortFrom(addr, p.Dst.Port())
	case rules.Selector(rules.TCPSport), rules.Selector(rules.UDPSport):
		p.Src = netip.AddrPortFrom(p.Src.Addr(), port)
	case rules.Selector(rules.TCPDport), rules.Selector(rules.UDPDport):
		p.Dst = netip.AddrPortFrom(p.Dst.Addr(), port)
	}
	return true
}

func (w *walk) noTrack(n rules.NoTrack) (rules.Verdict, bool) {
	if !w.track.seen() && !w.track.template {
		w.track.state = rules.CTUntracked
		w.did(n)
	}
	return rules.Verdict{}, true
}
