// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// hexMark is a mark as nft prints it, "" for none.
func hexMark(m rules.Mark) string {
	if m == 0 {
		return ""
	}
	return fmt.Sprintf("0x%x", uint32(m))
}

// ProtoName is the protocol in words.
func ProtoName(p rules.Proto) string { return rules.L4Proto.Type().Format(rules.RangeOf(p).Lo) }

// Endpoint is an address, with its port where the protocol has ports.
func Endpoint(p rules.Proto, a netip.AddrPort) string {
	if p == rules.TCP || p == rules.UDP {
		return a.String()
	}
	return a.Addr().String()
}

// Headline says which packet it is, and by which interface it leaves if it does.
func (a Answer) Headline() string {
	text := packetText(a.Packet, a.Owner)
	if a.Fate.Out != "" {
		text += ", leaving by " + a.Fate.Out
	}
	return text
}

// PacketText says which packet it is.
func PacketText(p sim.Packet) string { return packetText(p, "") }

func packetText(p sim.Packet, owner string) string {
	text := ProtoName(p.Proto) + " "
	if p.Src.Addr().IsValid() {
		text += p.Src.Addr().String() + " -> "
	}
	text += Endpoint(p.Proto, p.Dst)
	if p.In != "" {
		text += ", arriving on " + p.In
	}
	if p.Socket != nil && owner != "" {
		text += ", opened by " + owner
	} else if p.Socket != nil {
		text += fmt.Sprintf(", opened by uid %d", p.Socket.UID)
		if p.Socket.GID != 0 {
			text += fmt.Sprintf(" gid %d", p.Socket.GID)
		}
	}
	if p.Mark != 0 {
		text += ", mark " + hexMark(p.Mark)
	}
	return text
}

// says is the fate in a sentence.
func (x *Explainer) says(a Answer) string {
	p, f := a.Packet, a.Fate
	var text string
	switch f.Kind {
	case sim.Redirected:
		text = fmt.Sprintf("captured: lands on %s; original destination %s", x.listener(f.Port), Endpoint(p.Proto, f.Asked))
		if a.Taken {
			text = fmt.Sprintf("taken by %s: it lands on port %d, and not at weir's proxy; original destination %s", a.Decided, f.Port, Endpoint(p.Proto, f.Asked))
		}
	case sim.Proxied:
		text = fmt.Sprintf("captured: lands on %s, addresses unchanged%s", x.listener(f.Port), x.unlessOpen(p))
		if a.Taken {
			text = fmt.Sprintf("taken by %s: port %d gets it, addresses unchanged, and not weir's proxy", a.Decided, f.Port)
		}
	case sim.Untouched:
		if f.Here {
			text = "left alone: delivered to " + Endpoint(p.Proto, f.Dst)
		} else {
			text = "left alone: leaves by " + f.Out
		}
		if f.Src.Addr() != p.Src.Addr() && p.Src.Addr().IsValid() {
			text += ", from " + f.Src.Addr().String()
		}
	case sim.Unknown:
		text = "unknown from here: " + f.Why
	default:
		text = f.Kind.String() + ": " + f.Why
		if f.Kind == sim.Dropped && x.foreign != nil && a.Decided != "" {
			text = "dropped: by " + a.Decided
		}
	}
	if f.Here && f.Socket == nil && !x.host.Assumes && (p.Proto == rules.TCP || p.Proto == rules.UDP) {
		text += ", where no socket listens"
	}
	if x.dormant != "" && f.Kind == sim.Untouched {
		text += fmt.Sprintf(" (table %s is dormant: the kernel calls none of its chains)", x.dormant)
	}
	return text + marksText(f.Mark, f.CTMark, f.Zone)
}

// unlessOpen says what becomes of a packet for a transparent listener where that
// does not listen, of a host whose listeners are assumed.
func (x *Explainer) unlessOpen(p sim.Packet) string {
	if !x.host.Assumes {
		return ""
	}
	f := x.closed()(p).Fate
	return fmt.Sprintf(" (no listener: %s)", classFate{kind: f.Kind}.text(nil))
}

// marksText is what a packet is left with, "" for nothing.
func marksText(mark, ctMark rules.Mark, zone rules.Zone) (text string) {
	if mark != 0 {
		text += ", mark " + hexMark(mark)
	}
	if ctMark != 0 {
		text += ", connection mark " + hexMark(ctMark)
	}
	if zone != 0 {
		text += fmt.Sprintf(", zone %d", zone)
	}
	return text
}

func (x *Explainer) listener(p rules.Port) string {
	if name := x.listeners[p]; name != "" {
		return fmt.Sprintf("the %s, port %d", name, p)
	}
	return fmt.Sprintf("port %d", p)
}
