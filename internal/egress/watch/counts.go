// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"net/netip"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// Destination is what was called, and who called it.
type Destination struct {
	Proto rules.Proto
	Addr  netip.AddrPort
	Owner string // a user id, a cgroup's id or a pod; "" where it is not known
}

// Total is what a destination counts. Bytes are those of IP packets, of which a packet that
// the kernel cuts up or joins later counts one header.
type Total struct{ Opened, SentPackets, Sent, ReceivedPackets, Received uint64 }

// Payload is what a TCP destination's bytes are without headers: of IP, and of TCP with timestamps,
// as Linux sends them. Of packets that open and end connections it takes a little too little.
func (t Total) Payload(ipv6 bool) (sent, received uint64) {
	header := uint64(20 + 32)
	if ipv6 {
		header = 40 + 32
	}
	return t.Sent - min(t.Sent, t.SentPackets*header), t.Received - min(t.Received, t.ReceivedPackets*header)
}

// maxDestinations bounds what is remembered: what comes later counts for Other.
const maxDestinations = 1 << 16

// counts adds up what sets count: elements come, time out and begin anew.
type counts struct {
	totals   map[Destination]*Total
	owner    func(string) string      // what an owner is called; nil: as the key has it
	last     map[string]rules.Counter // by set and key
	other    Total
	overflow uint64 // packets that full sets had no room for
	hellos   uint64 // ClientHellos that are copied in part for the same reason
}

func newCounts() *counts {
	return &counts{totals: map[Destination]*Total{}, last: map[string]rules.Counter{}}
}

// take adds what the table counted since it was taken last.
func (c *counts) take(t *rules.Table) {
	now := make(map[string]rules.Counter, len(c.last))
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		for _, name := range []string{modes.EgressOpened, modes.EgressSent, modes.EgressReceived, modes.EgressUnownedSent, modes.EgressUnownedReceived} {
			s := t.Set(f.SetName(name))
			if s == nil {
				continue
			}
			for i := range s.Elements {
				c.element(name, s.Name, s.Key, &s.Elements[i], now)
			}
		}
	}
	c.last = now
	c.overflow, c.hellos = refused(t)
}

func (c *counts) element(name, set string, types []rules.DataType, e *rules.Element, now map[string]rules.Counter) {
	id := set + keyOf(e.Key)
	now[id] = e.Counter
	delta, before := e.Counter, c.last[id]
	if before.Packets <= delta.Packets && before.Bytes <= delta.Bytes { // else it timed out, and is another
		delta.Packets, delta.Bytes = delta.Packets-before.Packets, delta.Bytes-before.Bytes
	}
	if delta == (rules.Counter{}) {
		return
	}
	d := destinationOf(types, e)
	if c.owner != nil {
		d.Owner = c.owner(d.Owner)
	}
	total := c.of(d)
	switch name {
	case modes.EgressOpened:
		total.Opened += delta.Packets
	case modes.EgressSent, modes.EgressUnownedSent:
		total.SentPackets, total.Sent = total.SentPackets+delta.Packets, total.Sent+delta.Bytes
	default:
		total.ReceivedPackets, total.Received = total.ReceivedPackets+delta.Packets, total.Received+delta.Bytes
	}
}

func (c *counts) of(d Destination) *Total {
	if t := c.totals[d]; t != nil {
		return t
	}
	if len(c.totals) >= maxDestinations {
		return &c.other
	}
	t := new(Total)
	c.totals[d] = t
	return t
}

// destinationOf reads the key of an element: an address, a protocol, a port, and an owner.
func destinationOf(types []rules.DataType, e *rules.Element) Destination {
	addr, _ := netip.AddrFromSlice([]byte(e.Key[0].Lo))
	d := Destination{Proto: rules.Proto(e.Key[1].Lo.Uint64()), Addr: netip.AddrPortFrom(addr, uint16(e.Key[2].Lo.Uint64()))}
	if len(e.Key) > 3 {
		d.Owner = types[3].Format(e.Key[3].Lo)
	}
	return d
}

// refused is what full sets had no room for.
func refused(t *rules.Table) (packets, hellos uint64) {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, n := range r.Nodes {
				counter, counts := n.(rules.Counter)
				switch {
				case counts && r.Reason == modes.EgressOverflow:
					packets += counter.Packets
				case counts && r.Reason == modes.EgressHelloOverflow:
					hellos += counter.Packets
				}
			}
		}
	}
	return packets, hellos
}
