package sim

import (
	"fmt"
	"net/netip"
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
	path, ok := w.route(flow{src: p.Src.Addr(), dst: p.Dst.Addr(), mark: p.Mark})
	if !ok {
		return false
	}
	w.path = path
	if bound {
		if !w.mayUse(p.Src.Addr()) {
			w.end(LostInRouting, "%s is no address of this host", p.Src.Addr())
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
	if p.Src.Addr().Is6() || p.Proto != rules.TCP && p.Proto != rules.UDP {
		return true
	}
	path, found := w.host.lookup(flow{src: p.Src.Addr(), dst: p.Dst.Addr(), mark: p.Mark})
	switch {
	case found && path == w.path:
		return true
	case p.Proto == rules.UDP:
		w.end(Unknown, "whether its socket is connected, by which policy rules give it one route or another")
		return false
	}
	path, ok := w.route(flow{src: p.Src.Addr(), dst: p.Dst.Addr(), mark: p.Mark})
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
	p, ok := w.route(flow{src: w.packet.Src.Addr(), dst: w.packet.Dst.Addr(), mark: w.packet.Mark})
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
	if src.Is4() && outside && !w.wayBack(src) {
		w.end(LostInRouting, "the route back to %s is not by %s (rp_filter)", src, w.in)
		return false
	}
	path, ok := w.route(flow{src: src, dst: dst, mark: p.Mark, in: w.in})
	w.path = path
	return ok
}

// wayBack reports whether the link's reverse path filter lets a source in. One of
// this host's own addresses has its route by the link that it stands on
// (__fib_validate_source).
func (w *walk) wayBack(src netip.Addr) bool {
	l := w.host.link(w.in)
	if l == nil || l.ReversePath == AnyPath {
		return true
	}
	back, found := w.host.lookup(flow{src: w.packet.Dst.Addr(), dst: src, in: loopback})
	return found && (back.Type == rules.Unicast || back.Type == rules.Local && l.AcceptLocal) && (l.ReversePath == LoosePath || back.Out == w.in)
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
		w.end(LostInRouting, "%s is no address of this host, and it passes nothing on", w.packet.Dst.Addr())
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
	mark := w.packet.Mark
	w.callBase(c)
	if !w.ended && c.Base.Type == rules.RouteType && w.packet.Mark != mark {
		w.reroute()
	}
}

func (c baseChain) sees(p *Packet) bool { return c.family == 0 || c.family == p.Family() }

// nat lets the first packet of a connection through the nat chains, until one
// decides, and turns the addresses of every packet (nf_nat_inet_fn).
func (w *walk) nat(chains []baseChain) {
	c := w.track.Connection
	if c == nil {
		return
	}
	done := &c.dstDone
	if w.hook == rules.Input || w.hook == rules.Postrouting {
		done = &c.srcDone
	}
	if w.track.state == rules.CTNew || w.track.state == rules.CTRelated {
		for _, chain := range chains {
			if *done {
				break
			}
			if chain.sees(&w.packet) {
				w.callBase(chain)
			}
			if w.ended {
				return
			}
		}
		*done = true
	}
	w.translate(c)
}

// translate gives the packet the addresses that nat chose for its connection.
func (w *walk) translate(c *Connection) {
	p := &w.packet
	src, dst := p.Src, p.Dst
	onDst := w.hook == rules.Prerouting || w.hook == rules.Output
	switch {
	case onDst && !w.track.reply && c.To != c.Dst:
		p.Dst = c.To
	case onDst && w.track.reply && c.From != c.Src:
		p.Dst = c.Src
	case !onDst && !w.track.reply && c.From != c.Src:
		p.Src = c.From
	case !onDst && w.track.reply && c.To != c.Dst:
		p.Src = c.Dst
	}
	if p.Src != src {
		w.kernel("nat: from %s, not from %s", p.Src, src)
	}
	if w.hook == rules.Output && p.Dst.Addr() != dst.Addr() {
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

func typeName(t rules.AddrType) string { return rules.FibDaddrType.Type().Format(rules.RangeOf(t).Lo) }
