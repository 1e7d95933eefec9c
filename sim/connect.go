// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"
)

// Exchange is a connection as far as the firewall decides it: its first packet,
// the answer to it, and the packet after that; of UDP a datagram and its answer.
type Exchange struct {
	First, Answer, Next Journey
	End                 Ending
}

// Ending is how an exchange came out.
type Ending uint8

// Endings.
const (
	Completed Ending = iota
	NotSent          // the first packet is not delivered
	Refused          // no socket listens where it lands
	NoAnswer         // the answer does not come back to where the first packet came from
	Misplaced        // what follows the answer lands elsewhere than the first packet
)

var endingNames = [...]string{Completed: "completed", NotSent: "not sent", Refused: "refused", NoAnswer: "no answer", Misplaced: "misplaced"}

func (e Ending) String() string {
	if int(e) < len(endingNames) {
		return endingNames[e]
	}
	return fmt.Sprintf("ending %d", uint8(e))
}

// Connect is the exchange that a packet opens. Whoever is elsewhere answers by
// the link by which it was asked.
func (e *Evaluator) Connect(p Packet, t *Tracker) Exchange {
	if t == nil {
		t = new(Tracker) // the answer is of the connection that the first packet opens
	}
	x := Exchange{First: e.Evaluate(p, t)}
	first := x.First.Fate
	switch first.Kind {
	case Dropped, LostInRouting, Unknown:
		x.End = NotSent
		return x
	case Rejected:
		x.End = Refused
		return x
	}
	p = x.First.Packet
	answer := Packet{Proto: p.Proto, Src: first.Dst, Dst: first.Src, Turn: Answers}
	with := *e
	with.host.Sockets = slices.Clip(e.host.Sockets)
	if p.In == "" {
		with.host.Sockets = append(with.host.Sockets, p.client())
	}
	if first.Here {
		if first.Socket == nil && !e.host.Assumes {
			return with.refused(x, answer, t)
		}
		s := e.host.assumed(p.Proto)
		if first.Socket != nil {
			s = *first.Socket
		}
		s.Local, s.Remote = first.Dst, first.Src
		with.host.Sockets = append(with.host.Sockets, s)
		answer.Socket, answer.Mark = &s, s.Mark
	} else {
		answer.In = first.Out
	}
	x.Answer = with.Evaluate(answer, t)
	if !x.Answer.Fate.answers(p) {
		x.End = NoAnswer
		return x
	}
	p.Turn = Continues
	x.Next = with.Evaluate(p, t)
	if !x.Next.Fate.follows(first) {
		x.End = Misplaced
	}
	return x
}

// refused ends an exchange at a port without a listener. The refusal is a packet
// too, without a socket: where the client's address is another host's, it goes
// there.
func (e *Evaluator) refused(x Exchange, refusal Packet, t *Tracker) Exchange {
	x.End = Refused
	if e := e.Evaluate(refusal, t); !e.Fate.answers(x.First.Packet) {
		x.Answer, x.End = e, NoAnswer
	}
	return x
}

// client is the socket that sends the packet, as it is found for answers.
func (p Packet) client() Socket {
	var s Socket
	if p.Socket != nil {
		s = *p.Socket
	}
	s.Proto, s.Local, s.Remote = p.Proto, p.Src, p.Dst
	return s
}

// answers reports whether a packet with that fate answers p, where p comes from.
func (f Fate) answers(p Packet) bool {
	return f.Kind < Dropped && f.Dst == p.Src && f.Src == p.Dst && f.Here == (p.In == "")
}

// follows reports whether the packet went where the other one went.
func (f Fate) follows(first Fate) bool {
	return f.Kind < Dropped && f.Here == first.Here && f.Out == first.Out && f.Dst == first.Dst && f.Src == first.Src
}

// Recovered is the destination that the listener learns: the first one, if
// conntrack knows the answers to the connection in its default zone, else the one it
// sees (getorigdst of net/netfilter/nf_conntrack_proto.c).
func (f Fate) Recovered() netip.AddrPort {
	if f.Tracked && f.ReplyZone == 0 {
		return f.Asked
	}
	return f.Dst
}
