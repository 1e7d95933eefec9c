package sim

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
)

// Evaluator tells what becomes of packets in a namespace. It is prepared once
// and may be used by many at a time.
type Evaluator struct {
	host    Host
	hooks   [rules.Ingress + 1][]station
	names   map[*rules.Table]names
	tracked []rules.Family // whose connections conntrack knows
}

// names are a table's sets and chains, as rules refer to them, and the packets that
// it sees.
type names struct {
	family rules.Family // 0: both
	sets   map[string]*index
	chains map[string]*rules.Chain
}

// Table is a table of nftables and the packets that it sees: a table of family inet sees
// both families.
type Table struct {
	*rules.Table
	Family rules.Family // 0: both
}

// station is what a packet meets at a hook: a base chain, all nat chains, or
// conntrack.
type station struct {
	chains []baseChain
	nat    bool
	tracks bool
}

type baseChain struct {
	*rules.Table
	*rules.Chain
	family rules.Family // that the table sees, 0: both
}

// NewEvaluator is for packets that meet all those tables, in the order in which
// they were made, each table's chains in theirs.
func NewEvaluator(h Host, tables ...Table) *Evaluator {
	e := &Evaluator{host: h, names: map[*rules.Table]names{}, tracked: tracked(tables)}
	var awake []*rules.Table
	for _, t := range tables {
		n := names{t.Family, map[string]*index{}, map[string]*rules.Chain{}}
		for _, s := range t.Sets {
			n.sets[s.Name] = newIndex(s)
		}
		for _, c := range t.Chains {
			n.chains[c.Name] = c
		}
		e.names[t.Table] = n
		if !t.Dormant {
			awake = append(awake, t.Table)
		}
	}
	for h := range e.hooks {
		e.hooks[h] = e.stations(rules.Hook(h), awake)
	}
	return e
}

// stations are what packets meet at a hook.
func (e *Evaluator) stations(hook rules.Hook, tables []*rules.Table) (out []station) {
	var nat []baseChain
	for _, s := range rules.Stations(hook, tables...) {
		switch {
		case s.Tracks:
			out = append(out, station{tracks: true})
		case s.NAT:
			out = append(out, station{chains: nat, nat: true})
		case s.Chain.Base.Type == rules.NATType:
			nat = append(nat, baseChain{s.Table, s.Chain, e.names[s.Table].family})
		default:
			out = append(out, station{chains: []baseChain{{s.Table, s.Chain, e.names[s.Table].family}}})
		}
	}
	return out
}

// EvaluatorOf is for packets in a namespace that holds that state alone.
func EvaluatorOf(s rules.State, h Host) *Evaluator {
	h = h.With(s)
	if s.Table == nil {
		return NewEvaluator(h)
	}
	return NewEvaluator(h, Table{Table: s.Table})
}

// tracked are the families of which some rule needs conntrack.
func tracked(tables []Table) (out []rules.Family) {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if slices.ContainsFunc(tables, func(t Table) bool { return (t.Family == 0 || t.Family == f) && t.Tracks(f) }) {
			out = append(out, f)
		}
	}
	return out
}

// Evaluate is the journey of a packet. The tracker knows the packets that went
// before, and will know this one.
func (e *Evaluator) Evaluate(p Packet, t *Tracker) Journey {
	w := &walk{Evaluator: e, tracker: t, packet: p, sender: p.Socket}
	if t == nil {
		w.tracker = new(Tracker)
	}
	w.journey.Packet, w.journey.Steps = p, make([]Step, 0, 8)
	if p.State != 0 {
		w.assumeState()
	}
	if p.In == "" {
		w.send()
	} else {
		w.arrive(p.In)
	}
	w.finish()
	return w.journey
}

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
	for i := range w.hooks[hook] {
		s := &w.hooks[hook][i]
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
	if c.Base.Hook == rules.Ingress && !slices.Contains(c.Base.Devices, w.in) || !c.sees(&w.packet) {
		return
	}
	mark, src, dst := w.packet.Mark, w.packet.Src.Addr(), w.packet.Dst.Addr()
	w.callBase(c)
	// nf_route_table_hook4 and nf_route_table_hook6
	if changed := w.packet.Mark != mark || w.packet.Src.Addr() != src || w.packet.Dst.Addr() != dst; changed && !w.ended && c.Base.Type == rules.RouteType {
		w.reroute()
	}
}

func (c baseChain) sees(p *Packet) bool { return c.family == 0 || c.family == p.Family() }

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
