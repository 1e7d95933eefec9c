// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// Tracker is what packets that went before left behind: the connections that conntrack
// knows, and elements that rules added to dynamic sets. The zero Tracker knows none.
type Tracker struct {
	tuples map[tuple][]direction // the newest first
	all    []*Connection
	added  map[*index][]rules.Element
}

// Connection is what conntrack keeps of one.
type Connection struct {
	Proto     rules.Proto
	Src, Dst  netip.AddrPort // of the packet that opened it
	From, To  netip.AddrPort // what nat made of them
	Zone      rules.Zone     // of what it sends
	ReplyZone rules.Zone     // of what answers it
	Mark      rules.Mark
	Answered  bool

	dstDone, srcDone bool // nat has decided
	known            bool
}

// Connections are those that were opened so far, in order.
func (t *Tracker) Connections() []*Connection { return t.all }

// zones are those of a connection's two directions, as a template has them before
// the connection is known (struct nf_conntrack_zone).
type zones struct{ original, reply rules.Zone }

type tuple struct {
	zone     rules.Zone
	proto    rules.Proto
	src, dst netip.AddrPort
}

// direction is a connection as one of its two ends sees it.
type direction struct {
	*Connection
	reply bool
}

// in reports whether the direction's own zone is the one that the template has for
// it (nf_ct_zone_equal).
func (d direction) in(z zones) bool {
	if d.reply {
		return d.ReplyZone == z.reply
	}
	return d.Zone == z.original
}

// find is the connection of a packet; where it opens one, a new connection. One
// that answers to nothing has none. It is looked for in the zone of each direction
// (resolve_normal_ct).
func (t *Tracker) find(p *Packet, z zones) (direction, bool) {
	for _, zone := range []rules.Zone{z.original, z.reply} {
		for _, d := range t.tuples[tuple{zone, p.Proto, p.Src, p.Dst}] {
			if d.in(z) {
				return d, true
			}
		}
	}
	if p.Turn == Answers && p.Proto == rules.TCP {
		return direction{}, false
	}
	return direction{Connection: &Connection{Proto: p.Proto, Src: p.Src, Dst: p.Dst, From: p.Src, To: p.Dst,
		Zone: z.original, ReplyZone: z.reply}}, true
}

// confirm remembers a connection once its first packet got through.
func (t *Tracker) confirm(c *Connection) {
	if c.known {
		return
	}
	if t.tuples == nil {
		t.tuples = map[tuple][]direction{}
	}
	c.known = true
	t.all = append(t.all, c)
	t.remember(tuple{c.Zone, c.Proto, c.Src, c.Dst}, direction{c, false})
	t.remember(tuple{c.ReplyZone, c.Proto, c.To, c.From}, direction{c, true})
}

func (t *Tracker) remember(at tuple, d direction) {
	t.tuples[at] = append([]direction{d}, t.tuples[at]...)
}

// tracking is how conntrack sees a packet at a point of its way (nf_ct_get).
type tracking struct {
	direction               // of no connection: not seen yet, not tracked or invalid
	state     rules.CTState // 0: not seen yet
	template  bool          // a zone was set before conntrack saw the packet
	zones     zones         // of the template
}

func (t tracking) seen() bool { return t.Connection != nil || t.state == rules.CTUntracked }

// shown is the state that `ct state` reads.
func (t tracking) shown() rules.CTState {
	switch {
	case t.template:
		return rules.CTNew
	case t.state == 0:
		return rules.CTInvalid
	}
	return t.state
}

// see is the state of the connection's next packet.
func (d direction) see() rules.CTState {
	if d.reply {
		d.Answered = true
	}
	if d.Answered {
		return rules.CTEstablished
	}
	return rules.CTNew
}
