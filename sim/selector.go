// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"strings"

	"github.com/weir-mesh/weir/rules"
)

// key reads a concatenation; ok is false where a part cannot be read.
func (w *walk) key(selectors []rules.Selector, into []rules.Bits) (key []rules.Bits, ok bool) {
	for _, s := range selectors {
		v, ok := w.read(s)
		if !ok {
			return nil, false
		}
		into = append(into, v)
	}
	return into, true
}

// read is what a selector reads of the packet where it is now. Where there is
// nothing to read the rule ends, negated or not (NFT_BREAK).
func (w *walk) read(s rules.Selector) (rules.Bits, bool) {
	p := &w.packet
	if proto := s.Proto(); proto != 0 && proto != p.Proto {
		return "", false
	}
	if f := s.Family(); f != 0 && f != p.Family() {
		return "", false
	}
	kind, argument := s.Kind()
	if through := kind == rules.Selector(rules.ThSport) || kind == rules.Selector(rules.ThDport); through && p.Proto != rules.TCP && p.Proto != rules.UDP {
		w.end(Unknown, "%s reads what stands there in a packet of %s", s, rules.L4Proto.Type().Format(rules.RangeOf(p.Proto).Lo))
		return "", false
	}
	if offset, length, isRaw := s.Raw(); isRaw {
		return w.readRaw(kind, offset, length)
	}
	if address, isFib := s.Fib(); isFib {
		return w.readFib(address, kind, rules.FibFlag(argument))
	}
	switch kind {
	case rules.Selector(rules.L4Proto):
		return rules.RangeOf(p.Proto).Lo, true
	case rules.Selector(rules.NFProto):
		return rules.RangeOf(p.Family()).Lo, true
	case rules.Selector(rules.MetaMark):
		return rules.RangeOf(p.Mark).Lo, true
	case rules.Selector(rules.IIf):
		return rules.RangeOf(w.host.index(w.in)).Lo, true
	case rules.Selector(rules.OIf):
		return rules.RangeOf(w.host.index(w.out)).Lo, true
	case rules.Selector(rules.IIfName):
		return exactName(w.in), true
	case rules.Selector(rules.OIfName):
		return exactName(w.out), true
	case rules.Selector(rules.IPSaddr), rules.Selector(rules.IP6Saddr):
		return rules.Bits(p.Src.Addr().AsSlice()), true
	case rules.Selector(rules.IPDaddr), rules.Selector(rules.IP6Daddr):
		return rules.Bits(p.Dst.Addr().AsSlice()), true
	case rules.Selector(rules.TCPSport), rules.Selector(rules.UDPSport), rules.Selector(rules.ThSport):
		return rules.RangeOf(rules.Port(p.Src.Port())).Lo, true
	case rules.Selector(rules.TCPDport), rules.Selector(rules.UDPDport), rules.Selector(rules.ThDport):
		return rules.RangeOf(rules.Port(p.Dst.Port())).Lo, true
	case rules.Selector(rules.TCPFlags):
		flags, _ := p.flags()
		return rules.RangeOf(flags).Lo, true
	case rules.Selector(rules.CTMark), rules.Selector(rules.CTStates), rules.Selector(rules.CTZone), rules.Selector(rules.CTOriginalZone):
		return w.readTracking(kind)
	case rules.Selector(rules.SkUID), rules.Selector(rules.SkGID):
		return w.readOwner(kind)
	case rules.Selector(rules.SocketTransparent), rules.Selector(rules.SocketMark), rules.SocketCgroup(0).Selector():
		return w.readSocket(kind, int(argument))
	}
	return "", false
}

// exactName is the name of an interface as the kernel compares it, "" for none.
func exactName(name string) rules.Bits {
	size := rules.IIfName.Type().Len()
	name = name[:min(len(name), size)]
	return rules.Bits(name + strings.Repeat("\x00", size-len(name)))
}

func (w *walk) readTracking(kind rules.Selector) (rules.Bits, bool) {
	t := &w.track
	switch {
	case kind == rules.Selector(rules.CTStates):
		return rules.RangeOf(t.shown()).Lo, true
	case t.Connection == nil:
		return "", false // after `ct zone set` too, seen on 6.18: before it, zeros were read
	case kind == rules.Selector(rules.CTZone) || kind == rules.Selector(rules.CTOriginalZone):
		return rules.RangeOf(t.Zone).Lo, true // the id, whichever directions have it
	}
	return rules.RangeOf(t.Mark).Lo, true
}

// readOwner reads who opened the packet's socket: the sender's on the way out,
// and on the way in the one that it was given to early.
func (w *walk) readOwner(kind rules.Selector) (rules.Bits, bool) {
	switch {
	case w.sender == nil && w.proxied:
		w.end(Unknown, "who owns the socket on port %d", w.port)
		return "", false
	case w.sender == nil:
		return "", false
	case kind == rules.Selector(rules.SkUID):
		return rules.RangeOf(w.sender.UID).Lo, true
	case w.sender.NoGID:
		w.end(Unknown, "which group owns the socket on port %d", w.sender.Local.Port())
		return "", false
	}
	return rules.RangeOf(w.sender.GID).Lo, true
}

// readSocket reads of the packet's socket or, on the way in, of the one that it
// is for (nft_socket_eval).
func (w *walk) readSocket(kind rules.Selector, level int) (rules.Bits, bool) {
	s := w.sender
	if s == nil && w.in != "" {
		if s = w.destination(); s == nil && (w.host.Assumes || w.proxied) {
			w.end(Unknown, "which sockets are open")
			return "", false
		}
	}
	switch {
	case s == nil:
		return "", false
	case kind == rules.Selector(rules.SocketTransparent):
		return rules.RangeOf(s.Transparent).Lo, true
	case kind == rules.Selector(rules.SocketMark):
		return rules.RangeOf(s.Mark).Lo, true
	case s.Cgroups == nil:
		w.end(Unknown, "which cgroup the socket belongs to")
		return "", false
	case level == 0:
		w.end(Unknown, "no cgroup is on level 0")
		return "", false
	case level > len(s.Cgroups):
		return "", false
	}
	return rules.RangeOf(s.Cgroups[level-1]).Lo, true
}

// destination is the socket that an arriving packet is for: of an answer, where
// its connection was opened from (nf_sk_lookup_slow_v4).
func (w *walk) destination() *Socket {
	dst := w.packet.Dst
	if w.track.reply && w.track.Answered {
		dst = w.track.Src
	}
	return w.host.socket(w.packet.Proto, w.packet.Src, dst)
}
