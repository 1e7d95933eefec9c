package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
)

// index is a set as it is looked up.
type index struct {
	elements []rules.Element // of a plain key sorted, none of them overlapping
	plain    bool
	live     bool
	strange  string
}

func newIndex(s *rules.Set) *index {
	plain := len(s.Key) == 1 && !slices.ContainsFunc(s.Elements, func(e rules.Element) bool { return len(e.Key) != 1 })
	return &index{s.Normal().Elements, plain, s.Live, s.Others}
}

// find is the element that holds the key.
func (x *index) find(key []rules.Bits) *rules.Element {
	if x.plain && len(key) == 1 {
		return sortedElement(x.elements, key[0])
	}
	return anyElement(x.elements, key)
}

func sortedElement(elements []rules.Element, v rules.Bits) *rules.Element {
	i := sort.Search(len(elements), func(i int) bool { return elements[i].Key[0].Lo > v })
	if i == 0 || elements[i-1].Key[0].Hi < v {
		return nil
	}
	return &elements[i-1]
}

func anyElement(elements []rules.Element, key []rules.Bits) *rules.Element {
	for i := range elements {
		if holds(&elements[i], key) {
			return &elements[i]
		}
	}
	return nil
}

// holds reports whether every part of the key lies in its range.
func holds(e *rules.Element, key []rules.Bits) bool {
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
func title(c *rules.Chain) string { return "chain " + escape.Text(c.Name) }

const noVerdict rules.VerdictKind = 0 // the packet goes on

// callBase runs a base chain; what comes to its end meets the policy.
func (w *walk) callBase(c baseChain) {
	w.table, w.family, w.base = c.Table, c.family, c.Chain
	if w.call(c.Chain, 0) == noVerdict && !w.ended && c.Base.Drop {
		w.effect, w.handsOn = w.effect[:0], false
		w.step(c.Chain, 0, "", "policy drop", rules.Drop())
		w.end(Dropped, "by the policy of %s", title(c.Chain))
	}
}

// call runs a chain. Accept ends the base chain; noVerdict goes back to where
// the chain was jumped to from.
func (w *walk) call(c *rules.Chain, depth int) rules.VerdictKind {
	if depth > len(w.names[w.table].chains) {
		w.end(Unknown, "%s is jumped to in a circle", title(c))
		return rules.AcceptKind
	}
	for i := range c.Rules {
		v := w.rule(c, i)
		if w.ended {
			return rules.AcceptKind
		}
		switch v.Kind {
		case noVerdict, rules.ContinueKind:
			continue
		case rules.AcceptKind:
			return rules.AcceptKind
		case rules.DropKind:
			w.end(Dropped, "by rule %d of %s", i+1, title(c))
			return rules.AcceptKind
		case rules.ReturnKind:
			return noVerdict
		}
		next := w.names[w.table].chains[v.Chain]
		if next == nil {
			w.end(Unknown, "there is no chain %s", v.Chain)
			return rules.AcceptKind
		}
		if w.call(next, depth+1) == rules.AcceptKind {
			return rules.AcceptKind
		}
		if v.Kind == rules.GotoKind {
			return noVerdict
		}
	}
	return noVerdict
}

// rule runs one rule, until a node does not hold or says what is next. Continue
// goes on to the next node, as after a node without a verdict (nft_do_chain).
func (w *walk) rule(c *rules.Chain, at int) rules.Verdict {
	r := &c.Rules[at]
	w.effect, w.handsOn = w.effect[:0], false
	if w.rules++; w.rules > maxRules {
		w.end(Unknown, "the packet meets more than %d rules", maxRules)
		return rules.Verdict{}
	}
	var verdict rules.Verdict
	for _, n := range r.Nodes {
		var holds bool
		if verdict, holds = w.evaluate(n); !holds || verdict.Kind != noVerdict && verdict.Kind != rules.ContinueKind {
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

func (w *walk) step(c *rules.Chain, rule int, reason, does string, v rules.Verdict) {
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
func (w *walk) did(n rules.Node) { w.effect = append(w.effect, text(n)) }

// text is the node as nft writes it.
func text(n rules.Node) string { return rules.Rule{Nodes: []rules.Node{n}}.String() }

// evaluate walks one node: what it decides, and whether the rule goes on.
func (w *walk) evaluate(n rules.Node) (verdict rules.Verdict, holds bool) {
	switch n := n.(type) {
	case rules.Match:
		return w.match(n)
	case rules.VMap:
		return w.vmap(n)
	case rules.Verdict:
		w.did(n)
		return n, true
	case rules.Counter:
		return rules.Verdict{}, true
	case rules.Redirect:
		return w.redirect(n)
	case rules.SNAT:
		return w.snat(n)
	case rules.TProxy:
		return w.tproxy(n)
	case rules.Assign:
		return w.assign(n)
	case rules.NoTrack:
		return w.noTrack(n)
	case rules.Opaque:
		w.end(Unknown, "holds %s, which the model does not know", escape.Text(n.Name))
		return rules.Verdict{}, false
	}
	w.end(Unknown, "holds a node of type %T, which is not evaluated", n)
	return rules.Verdict{}, false
}

func (w *walk) match(m rules.Match) (rules.Verdict, bool) {
	found, ok := w.find(m.Key, m.Mask, m.Set, m.Elements)
	return rules.Verdict{}, ok && (found != nil) != m.Negated
}

func (w *walk) vmap(v rules.VMap) (rules.Verdict, bool) {
	found, ok := w.find(v.Key, "", v.Map, v.Elements)
	if !ok || found == nil {
		return rules.Verdict{}, false
	}
	w.did(found.Verdict)
	return found.Verdict, true
}

// find reads a key, under a mask if there is one, and finds it in a declared set, or
// among elements where none is named.
func (w *walk) find(selectors []rules.Selector, mask rules.Bits, set string, elements []rules.Element) (found *rules.Element, ok bool) {
	var room [4]rules.Bits
	key, ok := w.key(selectors, room[:0])
	if !ok {
		return nil, false
	}
	if at := slices.Index(selectors, rules.Selector(rules.TCPFlags)); at >= 0 {
		return w.findFlags(key, at, mask, set, elements)
	}
	return w.findKey(key, mask, set, elements)
}

func (w *walk) findKey(key []rules.Bits, mask rules.Bits, set string, elements []rules.Element) (found *rules.Element, ok bool) {
	if mask != "" && len(key) == 1 {
		key[0] = key[0].And(mask)
	}
	if set != "" {
		return w.lookup(set, key)
	}
	return anyElement(elements, key), true
}

// lookup finds a key in a declared set, if the set is one that is known whole.
func (w *walk) lookup(set string, key []rules.Bits) (*rules.Element, bool) {
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

func (w *walk) redirect(r rules.Redirect) (rules.Verdict, bool) {
	c := w.track.Connection
	if c == nil {
		return rules.Verdict{}, false // no nat chain, where conntrack has seen every packet
	}
	to, found := netip.Addr{}, true
	switch {
	case w.hook != rules.Output:
		to, found = w.host.link(w.in).redirects(w.packet.Dst.Addr())
	case w.packet.Family() == rules.IPv4:
		to = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		to = netip.IPv6Loopback()
	}
	w.did(r)
	if !found {
		w.end(Dropped, "%s has no address to redirect to", w.in)
		return rules.Accept(), true
	}
	port := rules.Port(w.packet.Dst.Port())
	if r.Ports != nil {
		if p := rules.RangeOf(port).Lo; p < r.Ports.Lo || r.Ports.Hi < p {
			port = rules.Port(r.Ports.Lo.Uint64())
		}
	}
	c.To, c.dstDone = netip.AddrPortFrom(to, uint16(port)), true
	return rules.Accept(), true
}

func (w *walk) snat(n rules.SNAT) (rules.Verdict, bool) {
	c := w.track.Connection
	if c == nil {
		return rules.Verdict{}, false // no nat chain
	}
	c.From, c.srcDone = netip.AddrPortFrom(n.To, c.Src.Port()), true
	w.did(n)
	return rules.Accept(), true
}

// tproxy follows nft_tproxy_eval: without a transparent socket to give the
// packet to, the rule ends.
func (w *walk) tproxy(t rules.TProxy) (rules.Verdict, bool) {
	p := &w.packet
	if p.Proto != rules.TCP && p.Proto != rules.UDP || t.Family != 0 && t.Family != p.Family() {
		return rules.Verdict{}, false
	}
	port := t.Port
	if port == 0 {
		port = rules.Port(p.Dst.Port())
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
		return rules.Verdict{}, false
	}
	w.did(t)
	w.handsOn, w.proxied, w.taken, w.sender, w.port = true, true, s, s, port
	return rules.Verdict{}, true
}

// assign to the connection does nothing before conntrack has
// seen the packet; a zone is set no more after (nft_ct_set_zone_eval).
func (w *walk) assign(a rules.Assign) (rules.Verdict, bool) {
	value := a.Xor
	if a.From != 0 {
		from, ok := w.read(a.From)
		if !ok {
			return rules.Verdict{}, false
		}
		value = from.And(a.Mask).Xor(a.Xor)
	}
	switch c := w.track.Connection; {
	case a.To == rules.Selector(rules.MetaMark):
		w.packet.Mark = rules.Mark(value.Uint64())
	case a.To == rules.Selector(rules.CTMark) && c != nil:
		c.Mark = rules.Mark(value.Uint64())
	case (a.To == rules.Selector(rules.CTZone) || a.To == rules.Selector(rules.CTOriginalZone)) && c == nil && !w.track.template:
		w.track = tracking{template: true, zones: zones{original: rules.Zone(value.Uint64())}}
		if a.To == rules.Selector(rules.CTZone) {
			w.track.zones.reply = w.track.zones.original
		}
	default:
		return rules.Verdict{}, true
	}
	w.did(a)
	return rules.Verdict{}, true
}

func (w *walk) noTrack(n rules.NoTrack) (rules.Verdict, bool) {
	if !w.track.seen() && !w.track.template {
		w.track.state = rules.CTUntracked
		w.did(n)
	}
	return rules.Verdict{}, true
}

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
		w.end(Unknown, "%s reads what stands there in a packet of %s", s, rules.InetProto.Format(rules.RangeOf(p.Proto).Lo))
		return "", false
	}
	switch kind {
	case rules.Selector(rules.L4Proto):
		return rules.RangeOf(p.Proto).Lo, true
	case rules.Selector(rules.NFProto):
		return rules.RangeOf(p.Family()).Lo, true
	case rules.Selector(rules.MetaMark):
		return rules.RangeOf(p.Mark).Lo, true
	case rules.Selector(rules.IIf):
		return rules.RangeOf(w.inIndex()).Lo, true
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
	case rules.Selector(rules.FibSaddrType):
		return w.readFib(p.Src.Addr(), p.Dst.Addr())
	case rules.Selector(rules.FibDaddrType):
		return w.readFib(p.Dst.Addr(), p.Src.Addr())
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
	size := rules.IfNameType.Len()
	name = name[:min(len(name), size)]
	return rules.Bits(name + strings.Repeat("\x00", size-len(name)))
}

func (w *walk) readFib(a, other netip.Addr) (rules.Bits, bool) {
	t, strange := w.host.fibType(a, other)
	if strange != "" {
		w.end(Unknown, "%s", strange)
		return "", false
	}
	return rules.RangeOf(t).Lo, true
}

func (w *walk) inIndex() rules.IfIndex {
	if l := w.host.link(w.in); l != nil {
		return l.Index
	}
	return 0
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

// Decision is the step that decided: what handed a proxied packet over; else
// where nat did or was kept from it; else the last rule that ended a chain, or did
// anything. It is the zero Step where no rule did.
func (j Journey) Decision() Step {
	var best Step
	rank := 0
	for _, s := range j.Steps {
		r := 0
		switch ends := s.Verdict.Kind == rules.AcceptKind || s.Verdict.Kind == rules.DropKind || s.Verdict.Kind == rules.ReturnKind; {
		case s.Chain == "":
		case j.Fate.Kind == Proxied && s.HandsOn:
			r = 4
		case ends && s.Type == rules.NATType, s.Verdict.Kind == rules.DropKind:
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
