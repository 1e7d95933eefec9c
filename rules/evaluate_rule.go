package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
)

// index is a set as it is looked up.
type index struct {
	elements []Element // of a plain key sorted, none of them overlapping
	plain    bool
	live     bool
	strange  string
}

func newIndex(s *Set) *index {
	plain := len(s.Key) == 1 && !slices.ContainsFunc(s.Elements, func(e Element) bool { return len(e.Key) != 1 })
	return &index{s.Normal().Elements, plain, s.Live, s.Others}
}

// find is the element that holds the key.
func (x *index) find(key []Bits) *Element {
	if x.plain && len(key) == 1 {
		return sortedElement(x.elements, key[0])
	}
	return anyElement(x.elements, key)
}

func sortedElement(elements []Element, v Bits) *Element {
	i := sort.Search(len(elements), func(i int) bool { return elements[i].Key[0].Lo > v })
	if i == 0 || elements[i-1].Key[0].Hi < v {
		return nil
	}
	return &elements[i-1]
}

func anyElement(elements []Element, key []Bits) *Element {
	for i := range elements {
		if holds(&elements[i], key) {
			return &elements[i]
		}
	}
	return nil
}

// holds reports whether every part of the key lies in its range.
func holds(e *Element, key []Bits) bool {
	if len(e.Key) != len(key) {
		return false
	}
	for i, r := range e.Key {
		if key[i] < r.Lo || r.Hi < key[i] {
			return false
		}
	}
	return true
}

// title names a chain in a message: another program may have named it.
func title(c *Chain) string { return "chain " + escape.Text(c.Name) }

// callBase runs a base chain; what comes to its end meets the policy.
func (w *walk) callBase(c baseChain) {
	w.table, w.family, w.base = c.Table, c.family, c.Chain
	if w.call(c.Chain, 0) == noVerdict && !w.ended && c.Base.Drop {
		w.effect, w.handsOn = w.effect[:0], false
		w.step(c.Chain, 0, "", "policy drop", Drop())
		w.end(Dropped, "by the policy of %s", title(c.Chain))
	}
}

// call runs a chain. Accept ends the base chain; noVerdict goes back to where
// the chain was jumped to from.
func (w *walk) call(c *Chain, depth int) VerdictKind {
	if depth > MaxChainDepth {
		w.end(Unknown, "%s is jumped to from too deep", title(c))
		return AcceptKind
	}
	for i := range c.Rules {
		v := w.rule(c, i)
		if w.ended {
			return AcceptKind
		}
		switch v.Kind {
		case noVerdict, ContinueKind:
			continue
		case AcceptKind:
			return AcceptKind
		case DropKind:
			w.end(Dropped, "by rule %d of %s", i+1, title(c))
			return AcceptKind
		case ReturnKind:
			return noVerdict
		}
		next := w.names[w.table].chains[v.Chain]
		if next == nil {
			w.end(Unknown, "there is no chain %s", v.Chain)
			return AcceptKind
		}
		if w.call(next, depth+1) == AcceptKind {
			return AcceptKind
		}
		if v.Kind == GotoKind {
			return noVerdict
		}
	}
	return noVerdict
}

// rule runs one rule, until a node does not hold or says what is next. Continue
// goes on to the next node, as after a node without a verdict (nft_do_chain).
func (w *walk) rule(c *Chain, at int) Verdict {
	r := &c.Rules[at]
	w.effect, w.handsOn = w.effect[:0], false
	if w.rules++; w.rules > maxRules {
		w.end(Unknown, "the packet meets more than %d rules", maxRules)
		return Verdict{}
	}
	var verdict Verdict
	for _, n := range r.Nodes {
		var holds bool
		if verdict, holds = w.evaluate(n); !holds || verdict.Kind != noVerdict && verdict.Kind != ContinueKind {
			break
		}
	}
	if w.ended && w.fate == Unknown {
		w.why = fmt.Sprintf("%s rule %d: %s", title(c), at+1, w.why)
	}
	if len(w.effect) > 0 {
		w.step(c, at+1, r.Reason, "", verdict)
	}
	return verdict
}

// maxRules bounds a journey: chains that jump to each other, which no kernel
// holds, have it end all the same.
const maxRules = 1 << 20

func (w *walk) step(c *Chain, rule int, reason, does string, v Verdict) {
	for i, e := range w.effect {
		if i > 0 {
			does += ", "
		}
		does += e
	}
	w.journey.Steps = append(w.journey.Steps, Step{Hook: w.hook, Family: w.family, Table: w.table.Name, Chain: c.Name,
		Type: w.base.Base.Type, Priority: w.base.Base.Priority, Rule: rule, Reason: reason, Does: does, HandsOn: w.handsOn, Verdict: v})
}

// did notes what a node did.
func (w *walk) did(n Node) { w.effect = append(w.effect, text(n)) }

// text is the node as nft writes it.
func text(n Node) string { return Rule{Nodes: []Node{n}}.String() }

// evaluate walks one node: what it decides, and whether the rule goes on.
func (w *walk) evaluate(n Node) (verdict Verdict, holds bool) {
	switch n := n.(type) {
	case Match:
		return w.match(n)
	case VMap:
		return w.vmap(n)
	case Verdict:
		w.did(n)
		return n, true
	case Counter:
		return Verdict{}, true
	case Redirect:
		return w.redirect(n)
	case SNAT:
		return w.snat(n)
	case TProxy:
		return w.tproxy(n)
	case Assign:
		return w.assign(n)
	case NoTrack:
		return w.noTrack(n)
	case Opaque:
		w.end(Unknown, "holds %s, which the model does not know", escape.Text(n.Name))
		return Verdict{}, false
	}
	w.end(Unknown, "holds a node of type %T, which is not evaluated", n)
	return Verdict{}, false
}

func (w *walk) match(m Match) (Verdict, bool) {
	found, ok := w.find(m.Key, m.Mask, m.Set, m.Elements)
	return Verdict{}, ok && (found != nil) != m.Negated
}

func (w *walk) vmap(v VMap) (Verdict, bool) {
	found, ok := w.find(v.Key, "", v.Map, v.Elements)
	if !ok || found == nil {
		return Verdict{}, false
	}
	w.did(found.Verdict)
	return found.Verdict, true
}

// find reads a key, under a mask if there is one, and finds it in a declared set, or
// among elements where none is named.
func (w *walk) find(selectors []Selector, mask Bits, set string, elements []Element) (found *Element, ok bool) {
	var room [4]Bits
	key, ok := w.key(selectors, room[:0])
	if !ok {
		return nil, false
	}
	if at := slices.Index(selectors, Selector(TCPFlags)); at >= 0 {
		return w.findFlags(key, at, mask, set, elements)
	}
	return w.findKey(key, mask, set, elements)
}

func (w *walk) findKey(key []Bits, mask Bits, set string, elements []Element) (found *Element, ok bool) {
	if mask != "" && len(key) == 1 {
		key[0] = key[0].And(mask)
	}
	if set != "" {
		return w.lookup(set, key)
	}
	return anyElement(elements, key), true
}

// lookup finds a key in a declared set, if the set is one that is known whole.
func (w *walk) lookup(set string, key []Bits) (*Element, bool) {
	x := w.names[w.table].sets[set]
	switch {
	case x == nil:
		w.end(Unknown, "there is no set %s", set)
	case x.strange != "":
		w.end(Unknown, "set %s has %s", set, x.strange)
	case x.live && w.host.Assumes:
		w.end(Unknown, "what set %s holds changes at run time", set)
	default:
		return x.find(key), true
	}
	return nil, false
}

func (w *walk) redirect(r Redirect) (Verdict, bool) {
	c := w.track.Connection
	if c == nil {
		return Verdict{}, false // no nat chain, where conntrack has seen every packet
	}
	to, found := netip.Addr{}, true
	switch {
	case w.hook != Output:
		to, found = w.host.link(w.in).redirects(w.packet.Dst.Addr())
	case w.packet.Family() == IPv4:
		to = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		to = netip.IPv6Loopback()
	}
	w.did(r)
	if !found {
		w.end(Dropped, "%s has no address to redirect to", w.in)
		return Accept(), true
	}
	port := Port(w.packet.Dst.Port())
	if r.Ports != nil {
		if p := Span(port).Lo; p < r.Ports.Lo || r.Ports.Hi < p {
			port = Port(r.Ports.Lo.Uint64())
		}
	}
	c.To, c.dstDone = netip.AddrPortFrom(to, uint16(port)), true
	return Accept(), true
}

func (w *walk) snat(n SNAT) (Verdict, bool) {
	c := w.track.Connection
	if c == nil {
		return Verdict{}, false // no nat chain
	}
	c.From, c.srcDone = netip.AddrPortFrom(n.To, c.Src.Port()), true
	w.did(n)
	return Accept(), true
}

// tproxy follows nft_tproxy_eval: without a transparent socket to give the
// packet to, the rule ends.
func (w *walk) tproxy(t TProxy) (Verdict, bool) {
	p := &w.packet
	if p.Proto != TCP && p.Proto != UDP || t.Family != 0 && t.Family != p.Family() {
		return Verdict{}, false
	}
	port := t.Port
	if port == 0 {
		port = Port(p.Dst.Port())
	}
	addr, ok := netip.AddrFromSlice([]byte(t.Addr))
	if !ok {
		addr, ok = w.host.link(w.in).first(p.Family())
	}
	if !ok {
		addr = p.Dst.Addr()
	}
	s := w.host.socket(p.Proto, p.Src, p.Dst)
	if s == nil || !s.Remote.IsValid() { // none that is connected: one that takes new connections
		s = w.host.socket(p.Proto, netip.AddrPort{}, netip.AddrPortFrom(addr, uint16(port)))
	}
	if s == nil && !w.host.Assumes || s != nil && !s.Transparent {
		w.kernel("no listener: %s finds no transparent socket", text(t))
		return Verdict{}, false
	}
	w.did(t)
	w.handsOn, w.proxied, w.taken, w.sender, w.port = true, true, s, s, port
	return Verdict{}, true
}

// assign to the connection does nothing before conntrack has
// seen the packet; a zone is set no more after (nft_ct_set_zone_eval).
func (w *walk) assign(a Assign) (Verdict, bool) {
	value := a.Xor
	if a.From != 0 {
		from, ok := w.read(a.From)
		if !ok {
			return Verdict{}, false
		}
		value = from.And(a.Mask).Xor(a.Xor)
	}
	switch c := w.track.Connection; {
	case a.To == Selector(MetaMark):
		w.packet.Mark = Mark(value.Uint64())
	case a.To == Selector(CTMark) && c != nil:
		c.Mark = Mark(value.Uint64())
	case (a.To == Selector(CTZone) || a.To == Selector(CTOriginalZone)) && c == nil && !w.track.template:
		w.track = tracking{template: true, zones: zones{original: Zone(value.Uint64())}}
		if a.To == Selector(CTZone) {
			w.track.zones.reply = w.track.zones.original
		}
	default:
		return Verdict{}, true
	}
	w.did(a)
	return Verdict{}, true
}

func (w *walk) noTrack(n NoTrack) (Verdict, bool) {
	if !w.track.seen() && !w.track.template {
		w.track.state = Untracked
		w.did(n)
	}
	return Verdict{}, true
}

// key reads a concatenation; ok is false where a part cannot be read.
func (w *walk) key(selectors []Selector, into []Bits) (key []Bits, ok bool) {
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
func (w *walk) read(s Selector) (Bits, bool) {
	p := &w.packet
	if proto := s.Proto(); proto != 0 && proto != p.Proto {
		return "", false
	}
	if f := s.Family(); f != 0 && f != p.Family() {
		return "", false
	}
	kind, argument := s.Kind()
	if through := kind == Selector(ThSport) || kind == Selector(ThDport); through && p.Proto != TCP && p.Proto != UDP {
		w.end(Unknown, "%s reads what stands there in a packet of %s", s, InetProto.Format(Span(p.Proto).Lo))
		return "", false
	}
	switch kind {
	case Selector(L4Proto):
		return Span(p.Proto).Lo, true
	case Selector(NFProto):
		return Span(p.Family()).Lo, true
	case Selector(MetaMark):
		return Span(p.Mark).Lo, true
	case Selector(IIf):
		return Span(w.inIndex()).Lo, true
	case Selector(IIfName):
		return exactName(w.in), true
	case Selector(OIfName):
		return exactName(w.out), true
	case Selector(IPSaddr), Selector(IP6Saddr):
		return Bits(p.Src.Addr().AsSlice()), true
	case Selector(IPDaddr), Selector(IP6Daddr):
		return Bits(p.Dst.Addr().AsSlice()), true
	case Selector(TCPSport), Selector(UDPSport), Selector(ThSport):
		return Span(Port(p.Src.Port())).Lo, true
	case Selector(TCPDport), Selector(UDPDport), Selector(ThDport):
		return Span(Port(p.Dst.Port())).Lo, true
	case Selector(TCPFlags):
		flags, _ := p.flags()
		return Span(flags).Lo, true
	case Selector(FibSaddrType):
		return w.readFib(p.Src.Addr(), p.Dst.Addr())
	case Selector(FibDaddrType):
		return w.readFib(p.Dst.Addr(), p.Src.Addr())
	case Selector(CTMark), Selector(CTStates), Selector(CTZone), Selector(CTOriginalZone):
		return w.readTracking(kind)
	case Selector(SkUID), Selector(SkGID):
		return w.readOwner(kind)
	case Selector(SocketTransparent), Selector(SocketMark), SocketCgroupKind:
		return w.readSocket(kind, int(argument))
	}
	return "", false
}

// exactName is the name of an interface as the kernel compares it, "" for none.
func exactName(name string) Bits {
	size := IfNameType.Len()
	name = name[:min(len(name), size)]
	return Bits(name + strings.Repeat("\x00", size-len(name)))
}

func (w *walk) readFib(a, other netip.Addr) (Bits, bool) {
	t, strange := w.host.fibType(a, other)
	if strange != "" {
		w.end(Unknown, "%s", strange)
		return "", false
	}
	return Span(t).Lo, true
}

func (w *walk) inIndex() IfIndex {
	if l := w.host.link(w.in); l != nil {
		return l.Index
	}
	return 0
}

func (w *walk) readTracking(kind Selector) (Bits, bool) {
	t := &w.track
	switch {
	case kind == Selector(CTStates):
		return Span(t.shown()).Lo, true
	case t.Connection == nil:
		return "", false // after `ct zone set` too, seen on 6.18: before it, zeros were read
	case kind == Selector(CTZone) || kind == Selector(CTOriginalZone):
		return Span(t.Zone).Lo, true // the id, whichever directions have it
	}
	return Span(t.Mark).Lo, true
}

// readOwner reads who opened the packet's socket: the sender's on the way out,
// and on the way in the one that it was given to early.
func (w *walk) readOwner(kind Selector) (Bits, bool) {
	switch {
	case w.sender == nil && w.proxied:
		w.end(Unknown, "who owns the socket on port %d", w.port)
		return "", false
	case w.sender == nil:
		return "", false
	case kind == Selector(SkUID):
		return Span(w.sender.UID).Lo, true
	case w.sender.NoGID:
		w.end(Unknown, "which group owns the socket on port %d", w.sender.Local.Port())
		return "", false
	}
	return Span(w.sender.GID).Lo, true
}

// readSocket reads of the packet's socket or, on the way in, of the one that it
// is for (nft_socket_eval).
func (w *walk) readSocket(kind Selector, level int) (Bits, bool) {
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
	case kind == Selector(SocketTransparent):
		return Span(Flag(s.Transparent)).Lo, true
	case kind == Selector(SocketMark):
		return Span(s.Mark).Lo, true
	case s.Cgroups == nil:
		w.end(Unknown, "which cgroup the socket belongs to")
		return "", false
	case level == 0:
		w.end(Unknown, "no cgroup is on level 0")
		return "", false
	case level > len(s.Cgroups):
		return "", false
	}
	return Span(s.Cgroups[level-1]).Lo, true
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

// Decision is the step that decided: what handed a proxied packet over; else
// where nat did or was kept from it; else the last rule that ended a chain, or did
// anything. It is the zero Step where no rule did.
func (j Journey) Decision() Step {
	var best Step
	rank := 0
	for _, s := range j.Steps {
		r := 0
		switch ends := s.Verdict.Kind == AcceptKind || s.Verdict.Kind == DropKind || s.Verdict.Kind == ReturnKind; {
		case s.Chain == "":
		case j.Fate.Kind == Proxied && s.HandsOn:
			r = 4
		case ends && s.Type == NATType, s.Verdict.Kind == DropKind:
			r = 3
		case ends:
			r = 2
		default:
			r = 1
		}
		if r > 0 && r >= rank {
			best, rank = s, r
		}
	}
	return best
}
