// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

const (
	maxWitnesses = 256 // packets of a table and a class
	perRule      = 4   // values of a set that are tried
)

// witnesses are packets like p that meet the rules of a table: for each rule that base
// chains lead to, p with what the rule and those on the way to it ask for.
func witnesses(t *rules.Table, p sim.Packet) []sim.Packet {
	w := &witnessing{table: t, seen: map[packetKey]bool{keyOf(p): true}}
	for _, c := range t.Chains {
		if c.Base != nil {
			w.met = map[string]bool{}
			w.chain(c, p)
		}
	}
	return w.out
}

type witnessing struct {
	table *rules.Table
	met   map[string]bool // chains, on the way from a base chain
	seen  map[packetKey]bool
	out   []sim.Packet
}

func (w *witnessing) chain(c *rules.Chain, p sim.Packet) {
	if c == nil || w.met[c.Name] {
		return
	}
	w.met[c.Name] = true
	for _, r := range c.Rules {
		if len(w.out) >= maxWitnesses {
			return
		}
		w.rule(r, p)
	}
}

func (w *witnessing) rule(r rules.Rule, p sim.Packet) {
	for i := range perRule {
		q, more := p, false
		var jumps []rules.Verdict
		for _, n := range r.Nodes {
			switch n := n.(type) {
			case rules.Match:
				elements := w.elements(n.Set, n.Elements)
				more = more || len(elements) > i+1
				if !n.Negated && len(elements) > 0 {
					q = meeting(q, n.Key, elements[min(i, len(elements)-1)])
				}
			case rules.VMap:
				elements := w.elements(n.Map, n.Elements)
				more = more || len(elements) > i+1
				if len(elements) > 0 {
					e := elements[min(i, len(elements)-1)]
					q = meeting(q, n.Key, e)
					jumps = append(jumps, e.Verdict)
				}
			case rules.Verdict:
				jumps = append(jumps, n)
			}
		}
		if key := keyOf(q); !w.seen[key] {
			w.seen[key] = true
			w.out = append(w.out, q)
		}
		for _, v := range jumps {
			if v.Chain != "" {
				w.chain(w.table.Chain(v.Chain), q)
			}
		}
		if !more || len(w.out) >= maxWitnesses {
			return
		}
	}
}

func (w *witnessing) elements(set string, inline []rules.Element) []rules.Element {
	if s := w.table.Set(set); set != "" && s != nil {
		return s.Elements
	}
	return inline
}

// meeting is the packet with the values of an element, as far as a packet of its family
// can have them.
func meeting(p sim.Packet, key []rules.Selector, e rules.Element) sim.Packet {
	for i, s := range key {
		if i < len(e.Key) {
			p = with(p, s, e.Key[i])
		}
	}
	return p
}

func with(p sim.Packet, s rules.Selector, r rules.Range) sim.Packet {
	port := func() uint16 { return uint16(r.Lo.Uint64()) }
	switch s {
	case rules.IPDaddr.Selector(), rules.IP6Daddr.Selector():
		if a, ok := within(r); ok && a.Is4() == p.Dst.Addr().Is4() && p.In == "" {
			p.Dst = netip.AddrPortFrom(a, p.Dst.Port())
		}
	case rules.IPSaddr.Selector(), rules.IP6Saddr.Selector():
		if a, ok := within(r); ok && a.Is4() == p.Dst.Addr().Is4() && p.In != "" {
			p.Src = netip.AddrPortFrom(a, p.Src.Port())
		}
	case rules.TCPDport.Selector(), rules.UDPDport.Selector(), rules.ThDport.Selector():
		p.Dst = netip.AddrPortFrom(p.Dst.Addr(), port())
	case rules.TCPSport.Selector(), rules.UDPSport.Selector(), rules.ThSport.Selector():
		p.Src = netip.AddrPortFrom(p.Src.Addr(), port())
	case rules.SkUID.Selector():
		if p.Socket != nil {
			o := *p.Socket
			o.UID = rules.UID(r.Lo.Uint64())
			p.Socket = &o
		}
	case rules.SkGID.Selector():
		if p.Socket != nil {
			o := *p.Socket
			o.GID = rules.GID(r.Lo.Uint64())
			p.Socket = &o
		}
	}
	return p
}

// within is an address of the range that a host may have: the first of a network belongs
// to none.
func within(r rules.Range) (netip.Addr, bool) {
	lo := r.Lo
	if next, ok := (rules.Range{Lo: r.Lo, Hi: r.Lo}).After(); ok && !r.Single() {
		lo = next
	}
	return netip.AddrFromSlice([]byte(lo))
}

// packetKey is by what packets that are judged differ.
type packetKey struct {
	proto      rules.Proto
	src, dst   netip.AddrPort
	in, device string
	mark       rules.Mark
	sent       bool // by a socket
	uid        rules.UID
	gid        rules.GID
	socketMark rules.Mark
}

func keyOf(p sim.Packet) packetKey {
	k := packetKey{proto: p.Proto, src: p.Src, dst: p.Dst, in: p.In, device: p.Device, mark: p.Mark}
	if p.Socket != nil {
		k.sent, k.uid, k.gid, k.socketMark = true, p.Socket.UID, p.Socket.GID, p.Socket.Mark
	}
	return k
}
