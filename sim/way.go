// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// send is the way of a packet that a process, or the kernel, sends.
func (w *walk) send() {
	w.hook = rules.Output
	if !w.leave() {
		return
	}
	w.out = w.path.Out
	if w.run(rules.Output) {
		w.postroute()
	}
}

// leave finds the first route of a packet that is sent, and its source.
func (w *walk) leave() bool {
	p := &w.packet
	bound := p.Src.Addr().IsValid() && !p.Src.Addr().IsUnspecified()
	if p.Dst.Addr().IsUnspecified() {
		p.Dst = netip.AddrPortFrom(w.thisHost(bound), p.Dst.Port())
		w.kernel("to %s, which is this host", p.Dst.Addr())
	}
	if t := w.host.addrType(p.Dst.Addr()); p.Proto == rules.TCP && (t == rules.Multicast || t == rules.Broadcast) {
		w.end(LostInRouting, "network is unreachable: no connection is opened to a %s address", typeName(t))
		return false
	}
	path, ok := w.route(flow{src: p.Src.Addr(), dst: p.Dst.Addr(), mark: p.Mark, out: p.Device})
	if !ok {
		return false
	}
	w.path = path
	if bound {
		if !w.mayUse(p.Src.Addr()) {
			w.end(LostInRouting, "%s is not an address of this host", p.Src.Addr())
		}
		return !w.ended
	}
	src, ok := w.host.source(path, p.Dst.Addr())
	if !ok {
		w.end(LostInRouting, "network is unreachable: the route to %s leaves no address to send from", p.Dst.Addr())
		return false
	}
	p.Src = netip.AddrPortFrom(src, p.Src.Port())
	w.journey.Packet.Src = p.Src
	return w.connect()
}

// thisHost is where a packet goes that is sent to no address.
func (w *walk) thisHost(bound bool) netip.Addr {
	switch {
	case w.packet.Family() == rules.IPv6:
		return netip.IPv6Loopback()
	case bound:
		return w.packet.Src.Addr()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// connect looks the route up again, from the address that the first one gave
// (ip_route_connect). IPv6 does not, nor does what is sent by no connected socket.
func (w *walk) connect() bool {
	p := w.packet
	if p.Src.Addr().Is6() || p.Device != "" || p.Proto != rules.TCP && p.Proto != rules.UDP {
		return true
	}
	path, found := w.host.lookup(flow{src: p.Src.Addr(), dst: p.Dst.Addr(), mark: p.Mark, out: p.Device})
	switch {
	case found && path == w.path:
		return true
	case p.Proto == rules.UDP:
		w.end(Unknown, "whether its socket is connected, by which policy rules give it one route or another")
		return false
	}
	path, ok := w.route(flow{src: p.Src.Addr(), dst: p.Dst.Addr(), mark: p.Mark, out: p.Device})
	w.path = path
	return ok
}

// mayUse reports whether the packet can leave from that address. IPv4 looks at
// every packet's, IPv6 at what a socket is bound to.
func (w *walk) mayUse(src netip.Addr) bool {
	s := w.packet.Socket
	return s != nil && s.Transparent || w.host.owns(src) || src.Is6() && w.packet.Turn != Opens
}

// route looks the packet's route up, and ends the packet where there is none.
func (w *walk) route(f flow) (Route, bool) {
	p, found := w.host.lookup(f)
	switch {
	case !found && f.out != "" && f.in == "" && f.dst.Is4(): // it is taken to be on the link (ip_route_output_key_hash_rcu)
		p = Route{Dst: netip.PrefixFrom(f.dst, f.dst.BitLen()), Type: rules.Unicast, Out: f.out}
	case !found:
		w.end(LostInRouting, "no route to %s", f.dst)
	case p.Unsupported != "":
		w.end(Unknown, "%s", p.Unsupported)
	case p.Type == blackhole || p.Type == unreachable || p.Type == prohibit:
		w.end(LostInRouting, "the route to %s is %s", f.dst, typeName(p.Type))
	case f.in == "" && f.src.Is4() && f.src.IsLoopback() && p.Out != loopback && !w.host.localnet(p.Out): // __mkroute_output
		w.end(LostInRouting, "a loopback address does not leave by %s", p.Out)
	}
	return p, !w.ended
}

// reroute finds another route for a packet that is being sent, after its mark or
// address changed (ip_route_me_harder).
func (w *walk) reroute() bool {
	before := w.path.Out
	p, ok := w.route(flow{src: w.packet.Src.Addr(), dst: w.packet.Dst.Addr(), mark: w.packet.Mark, out: w.packet.Device})
	if ok {
		w.path = p
		if p.Out != before {
			w.kernel("routed again: by %s, not by %s", p.Out, before)
		}
	}
	return ok
}

// postroute is the last hook of a packet that leaves, or that comes back over lo.
func (w *walk) postroute() {
	w.out = w.path.Out
	if !w.run(rules.Postrouting) {
		return
	}
	w.confirm()
	if !w.run(rules.Egress) { // __dev_queue_xmit, of lo too
		return
	}
	if w.out != loopback && w.path.Type != rules.Local {
		return
	}
	w.sender, w.out = nil, ""
	w.routed = true // the route that it left by stays with it
	w.arrive(loopback)
}

const maxPassages = 64 // the hops that a packet has (net.ipv4.ip_default_ttl)

// arrive is the way of a packet that comes by an interface.
func (w *walk) arrive(in string) {
	w.in, w.out = in, ""
	if w.passages++; w.passages > maxPassages {
		w.end(LostInRouting, "it goes in a circle over %s", in)
		return
	}
	dst := w.packet.Dst
	if !w.run(rules.Ingress) || !w.run(rules.Prerouting) {
		return
	}
	if w.packet.Dst.Addr() != dst.Addr() {
		w.routed = false
	}
	if !w.routed && !w.routeIn() {
		return
	}
	switch w.path.Type {
	case rules.Local, rules.Broadcast, anycast, rules.Multicast:
		w.input()
	default:
		w.forward()
	}
}

// routeIn finds where a packet goes that came by an interface.
func (w *walk) routeIn() bool {
	p := &w.packet
	src, dst := p.Src.Addr(), p.Dst.Addr()
	outside := w.in != loopback
	switch {
	case outside && (src.IsLoopback() || dst.IsLoopback()) && !(dst.Is4() && w.host.localnet(w.in)):
		w.end(LostInRouting, "a loopback address has no business on %s", w.in)
		return false
	case outside && src.Is4() && w.host.owns(src) && !w.host.acceptsLocal(w.in):
		w.end(LostInRouting, "it comes by %s from an address of this host (a martian)", w.in)
		return false
	}
	path, ok := w.route(flow{src: src, dst: dst, mark: p.Mark, in: w.in})
	w.path = path
	if ok && src.Is4() && outside {
		w.validateSource(src)
	}
	return !w.ended
}

func (w *walk) input() {
	w.here = true
	if w.taken == nil && !w.routed && !w.proxied { // found early (net.ipv4.ip_early_demux)
		if s := w.host.socket(w.packet.Proto, w.packet.Src, w.packet.Dst); s != nil && s.Remote.IsValid() {
			w.sender = s
		}
	}
	if w.run(rules.Input) {
		w.confirm()
	}
}

func (w *walk) forward() {
	switch {
	case w.proxied:
		w.end(LostInRouting, "it was given to a socket here, and its route leads on by %s", w.path.Out)
	case !w.host.forwards(w.in, w.packet.Family()):
		w.end(LostInRouting, "%s is not an address of this host, and it passes nothing on", w.packet.Dst.Addr())
	}
	if w.ended {
		return
	}
	w.out = w.path.Out
	if w.run(rules.Forward) {
		w.postroute()
	}
}

func (w *walk) confirm() {
	if w.track.Connection != nil && w.packet.State == 0 {
		w.tracker.confirm(w.track.Connection)
	}
}

func typeName(t rules.AddrType) string {
	return rules.FibDaddr.Type().Type().Format(rules.RangeOf(t).Lo)
}
