// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
)

// walk is one packet on its way.
type walk struct {
	*Evaluator
	tracker *Tracker
	journey Journey
	packet  Packet

	sender  *Socket // whose packet it is, as long as it has not left
	taken   *Socket // that tproxy gave it to
	proxied bool
	port    rules.Port // of the socket that tproxy gave it to

	hook    rules.Hook
	in, out string // as the rules of the hook read them
	path    Route  // that was found for it
	routed  bool
	track   tracking

	table    *rules.Table // of the rule that is looked at
	family   rules.Family // that the table sees
	base     *rules.Chain
	rules    int // that were looked at
	passages int // of interfaces, on the way in
	ended    bool
	fate     FateKind
	why      string
	here     bool
	effect   []string // of the rule that is looked at
	handsOn  bool     // it gave the packet to a transparent socket
}

// assumeState makes the connection that the packet's State speaks of.
func (w *walk) assumeState() {
	p := &w.packet
	switch {
	case p.State&rules.CTUntracked != 0:
		w.track.state = rules.CTUntracked
	case p.State&rules.CTInvalid != 0:
		w.track.state = rules.CTInvalid
	default:
		// Nat sees the first packet of an expected connection too, which is related. Of
		// ICMP what is related is an error about another connection.
		first := p.State == rules.CTNew || p.State == rules.CTRelated && p.Proto != rules.ICMP && p.Proto != rules.ICMPv6
		w.track.state = p.State
		w.track.Connection = &Connection{Proto: p.Proto, Src: p.Src, Dst: p.Dst, From: p.Src, To: p.Dst, Mark: p.CTMark,
			Answered: !first, dstDone: !first, srcDone: !first}
	}
}

func (w *walk) end(kind FateKind, why string, args ...any) {
	if w.ended {
		return
	}
	w.ended, w.fate, w.why = true, kind, escape.Text(fmt.Sprintf(why, args...))
}

// kernel notes a step of the kernel's own.
func (w *walk) kernel(does string, args ...any) {
	w.journey.Steps = append(w.journey.Steps, Step{Hook: w.hook, Does: escape.Text(fmt.Sprintf(does, args...))})
}

// run takes the packet through a hook, and reports whether it comes out.
func (w *walk) run(hook rules.Hook) bool {
	w.hook = hook
	stations := w.hooks[w.packet.Family()][hook]
	for i := range stations {
		s := &stations[i]
		switch {
		case s.tracks:
			w.conntrack()
		case s.nat:
			w.nat(s.chains)
		default:
			w.filter(s.chains[0])
		}
		if w.ended {
			return false
		}
	}
	return true
}

// conntrack finds the packet's connection, unless it has been seen: over lo, or
// where a rule keeps it from being tracked (nf_conntrack_in).
func (w *walk) conntrack() {
	if w.track.seen() || w.packet.State != 0 || !slices.Contains(w.tracked, w.packet.Family()) {
		return
	}
	d, found := w.tracker.find(&w.packet, w.track.zones)
	w.track = tracking{state: rules.CTInvalid}
	if found {
		w.track = tracking{direction: d, state: d.see()}
	}
}

// filter runs a chain of type filter or route.
func (w *walk) filter(c baseChain) {
	if !c.sees(&w.packet) || c.Base.Hook == rules.Ingress && !slices.Contains(c.Base.Devices, w.in) ||
		c.Base.Hook == rules.Egress && !slices.Contains(c.Base.Devices, w.out) {
		return
	}
	mark, src, dst := w.packet.Mark, w.packet.Src.Addr(), w.packet.Dst.Addr()
	w.callBase(c)
	// nf_route_table_hook4 and nf_route_table_hook6
	if changed := w.packet.Mark != mark || w.packet.Src.Addr() != src || w.packet.Dst.Addr() != dst; changed && !w.ended && c.Base.Type == rules.RouteType {
		w.reroute()
	}
}

// finish says what became of the packet.
func (w *walk) finish() {
	p := &w.packet
	f := Fate{Kind: w.fate, Src: p.Src, Dst: p.Dst, Here: w.here && !w.ended, Mark: p.Mark, Why: w.why, Asked: p.Dst}
	if c := w.track.Connection; c != nil {
		f.Tracked, f.CTMark, f.Zone, f.ReplyZone = true, c.Mark, c.Zone, c.ReplyZone
		f.Asked = c.Dst
		if w.track.reply {
			f.Asked = c.Src
		}
	}
	if w.ended {
		w.journey.Fate = f
		return
	}
	switch {
	case w.proxied:
		f.Kind = Proxied
	case w.track.Connection != nil && !w.track.reply && w.track.To != w.track.Dst:
		f.Kind = Redirected
	}
	if f.Here {
		f.Port = rules.Port(p.Dst.Port())
		f.Socket = w.taken
		if w.proxied {
			f.Port = w.port
		} else {
			f.Socket = w.host.socket(p.Proto, p.Src, p.Dst)
		}
	} else {
		f.Out = w.out
	}
	w.journey.Fate = f
}
