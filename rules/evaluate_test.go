package rules

import (
	"net/netip"
	"slices"
	"testing"
)

func addrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// podHost is a host at eth0 and eth1, with a transparent listener on 15006 and a
// plain one on 8080.
func podHost() Host {
	h := NewHost(
		Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}},
		Link{Name: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24")}})
	h.Paths = append(h.Paths, Path{Table: mainTable, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: Unicast, Out: "eth0"})
	for _, port := range []uint16{15006, 8080} {
		h.Sockets = append(h.Sockets, Socket{Proto: TCP, Local: netip.AddrPortFrom(netip.IPv4Unspecified(), port), Transparent: port == 15006, UID: 1337})
	}
	return h
}

// on is a base chain of those rules.
func on(typ ChainType, hook Hook, priority int32, name string, rules ...[]Node) *Chain {
	c := &Chain{Name: name, Base: &Base{Type: typ, Hook: hook, Priority: priority}}
	for _, nodes := range rules {
		c.Add("", nodes...)
	}
	return c
}

func nodes(n ...Node) []Node { return n }

func TestEvaluate(t *testing.T) {
	app := &Socket{UID: 1000, GID: 1000}
	out := Packet{Proto: TCP, Dst: addrPort("203.0.113.7:443"), Socket: app}
	in := Packet{Proto: TCP, Src: addrPort("203.0.113.7:40000"), Dst: addrPort("192.0.2.2:8080"), In: "eth0"}
	isTCP := L4Proto.Is(TCP)
	marked := func(m Mark, then ...Node) []Node { return append(nodes(MetaMark.Is(m)), then...) }
	set := func(m Mark) Node { return SetMark(m, ^Mark(0)) }
	regular := func(name string, rules ...[]Node) *Chain {
		c := on("", 0, 0, name, rules...)
		c.Base = nil
		return c
	}
	for _, tt := range []struct {
		why    string
		packet Packet
		chains []*Chain
		want   Fate // of which the kind, the destination, the mark and the connection's are compared
	}{
		{"nothing decides: it leaves", out, nil, Fate{Dst: out.Dst, Out: "eth0"}},
		{"a redirect on the way out goes to this host's loopback address", out,
			[]*Chain{on(NATType, Output, -100, "nat", nodes(isTCP, RedirectTo(15006)))},
			Fate{Kind: Redirected, Dst: addrPort("127.0.0.1:15006"), Here: true}},
		{"a redirect on the way in goes to the first address of the interface", in,
			[]*Chain{on(NATType, Prerouting, -100, "nat", nodes(isTCP, RedirectTo(15006)))},
			Fate{Kind: Redirected, Dst: addrPort("192.0.2.2:15006"), Here: true}},
		{"a port within a redirect's range stays", in,
			[]*Chain{on(NATType, Prerouting, -100, "nat", nodes(isTCP, Redirect{Ports: &Range{Span(Port(8000)).Lo, Span(Port(8100)).Lo}}))},
			Fate{Dst: in.Dst, Here: true}},
		{"nat decides once for a connection, not again over lo", out,
			[]*Chain{on(NATType, Output, -100, "nat", nodes(isTCP, RedirectTo(15006))), on(NATType, Prerouting, -100, "again", nodes(isTCP, RedirectTo(8080)))},
			Fate{Kind: Redirected, Dst: addrPort("127.0.0.1:15006"), Here: true}},
		{"accept ends one base chain, and the next still sees the packet", out,
			[]*Chain{on(FilterType, Output, 0, "first", nodes(Accept()), nodes(Drop())), on(FilterType, Output, 1, "second", nodes(set(5)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 5}},
		{"return from a base chain is its policy", out,
			[]*Chain{{Name: "c", Base: &Base{Type: FilterType, Hook: Output, Drop: true}, Rules: []Rule{{Nodes: nodes(Return())}, {Nodes: nodes(Accept())}}}},
			Fate{Kind: Dropped, Dst: out.Dst}},
		{"return from a jump goes on after it", out,
			[]*Chain{on(FilterType, Output, 0, "c", nodes(Jump("r")), nodes(set(2))), regular("r", nodes(Return()), nodes(Drop()))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 2}},
		{"after a goto nothing more of the chain is run", out,
			[]*Chain{on(FilterType, Output, 0, "c", nodes(Goto("r")), nodes(Drop())), regular("r", nodes(set(3)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 3}},
		{"of equal priorities the chain that was made last comes first", out,
			[]*Chain{on(FilterType, Output, 0, "first", marked(1, set(2))), on(FilterType, Output, 0, "second", nodes(set(1)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 2}},
		{"nat stands at its own priority, whatever its chains say", out,
			[]*Chain{on(NATType, Output, 50, "nat", nodes(isTCP, RedirectTo(15006))), on(FilterType, Output, -50, "filter", nodes(TCPDport.Is(15006), set(1)))},
			Fate{Kind: Redirected, Dst: addrPort("127.0.0.1:15006"), Here: true, Mark: 1}},
		{"a verdict map without an element for it has no effect", out,
			[]*Chain{on(FilterType, Output, 0, "c", nodes(VMap{Key: []Selector{TCPDport.Selector()}, Elements: []Element{{Key: []Range{Span(Port(80))}, Verdict: Drop()}}}), nodes(set(4)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 4}},
		{"a verdict map that says continue lets the rule go on", out,
			[]*Chain{on(FilterType, Output, 0, "c", nodes(VMap{Key: []Selector{TCPDport.Selector()}, Elements: []Element{{Key: []Range{Span(Port(443))}, Verdict: Verdict{Kind: ContinueKind}}}}, Drop()))},
			Fate{Kind: Dropped, Dst: out.Dst}},
		{"what cannot be read matches nothing, negated or not", Packet{Proto: TCP, Dst: out.Dst},
			[]*Chain{on(FilterType, Output, 0, "c", nodes(SkUID.Not(1000), Drop()))},
			Fate{Dst: out.Dst, Out: "eth0"}},
		{"an interface that is not there has an empty name, and is not lo", in,
			[]*Chain{on(FilterType, Prerouting, 0, "c", nodes(OIfName.Not("lo"), Drop()))},
			Fate{Kind: Dropped, Dst: in.Dst}},
		{"without a transparent socket tproxy ends the rule", in,
			[]*Chain{on(FilterType, Prerouting, 0, "c", nodes(isTCP, TProxy{Port: 8080}, set(1)))},
			Fate{Dst: in.Dst, Here: true}},
		{"tproxy delivers to a transparent socket, addresses unchanged", in,
			[]*Chain{on(FilterType, Prerouting, 0, "c", nodes(isTCP, TProxy{Port: 15006}))},
			Fate{Kind: Proxied, Dst: in.Dst, Here: true}},
		{"before conntrack every packet is invalid", out,
			[]*Chain{on(FilterType, Output, PriorityRaw, "c", nodes(CTStates.Is(Invalid), set(1)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 1}},
		{"the first zone that is set stays, and notrack comes too late", out,
			[]*Chain{on(FilterType, Output, PriorityRaw, "c", nodes(SetZone(7)), nodes(SetZone(8)), nodes(NoTrack{})), on(FilterType, Output, 0, "d", nodes(CTZone.Is(7), SetCTMark(9, ^Mark(0))))},
			Fate{Dst: out.Dst, Out: "eth0", Tracked: true, Zone: 7, CTMark: 9}},
		{"what is not tracked meets no nat", out,
			[]*Chain{on(FilterType, Output, PriorityRaw, "c", nodes(NoTrack{})), on(NATType, Output, -100, "nat", nodes(isTCP, RedirectTo(15006)))},
			Fate{Dst: out.Dst, Out: "eth0"}},
		{"an opaque rule makes the fate unknown", out,
			[]*Chain{on(FilterType, Output, 0, "c", nodes(TCPDport.Is(443), Opaque{Name: "xt match"}))},
			Fate{Kind: Unknown, Dst: out.Dst}},
		{"a port of a packet that has none is whatever stands there", Packet{Proto: ICMP, Dst: out.Dst},
			[]*Chain{on(FilterType, Output, 0, "c", nodes(ThDport.Is(53), Drop()))},
			Fate{Kind: Unknown, Dst: out.Dst}},
		{"an opaque rule that is not reached stands in nobody's way", out,
			[]*Chain{on(FilterType, Output, 0, "c", nodes(TCPDport.Is(80), Opaque{Name: "xt match"}))},
			Fate{Dst: out.Dst, Out: "eth0"}},
	} {
		got := EvaluatorOf(State{Table: &Table{Name: "t", Chains: tt.chains}}, podHost()).Evaluate(tt.packet, nil).Fate
		have := Fate{Kind: got.Kind, Dst: got.Dst, Here: got.Here, Out: got.Out, Mark: got.Mark}
		if tt.want.Tracked {
			have.Tracked, have.Zone, have.CTMark = got.Tracked, got.Zone, got.CTMark
		}
		if have != tt.want {
			t.Errorf("%s:\nwant %+v\ngot  %+v", tt.why, tt.want, got)
		}
	}
}

// markedRoute delivers what has mark 1 here.
func markedRoute(chains ...*Chain) State {
	return State{
		Table:       &Table{Name: "t", Chains: chains},
		PolicyRules: []PolicyRule{{Family: IPv4, Priority: 100, Mark: 1, Mask: ^Mark(0), Table: 100}},
		Routes:      []Route{{Family: IPv4, Table: 100, Dst: netip.MustParsePrefix("0.0.0.0/0")}},
	}
}

func TestChangedMarksReroute(t *testing.T) {
	p := Packet{Proto: TCP, Dst: addrPort("203.0.113.7:443")}
	mark := nodes(MetaMark.Is(0), SetMark(1, ^Mark(0)))
	stale := nodes(OIfName.Is("eth0"), SetCTMark(2, ^Mark(0)))
	for _, tt := range []struct {
		why  string
		typ  ChainType
		here bool
	}{
		{"a mark that a route chain changes takes the packet to this host", RouteType, true},
		{"one that a filter chain changes does not", FilterType, false},
	} {
		f := EvaluatorOf(markedRoute(on(tt.typ, Output, -150, "mark", mark), on(FilterType, Output, 0, "see", stale)), podHost()).Evaluate(p, nil).Fate
		if f.Here != tt.here || f.CTMark != 2 {
			t.Errorf("%s, and oifname stays as it was for the hook's later chains: %+v", tt.why, f)
		}
	}
}

// TestRouteBySource: policy rules about the source see it once the first route gave
// one, of TCP and of what a connected socket sends.
func TestRouteBySource(t *testing.T) {
	h := podHost()
	h.Lookups = slices.Insert(h.Lookups, 1, Lookup{Family: IPv4, Priority: 500, From: netip.MustParsePrefix("192.0.2.2/32"), Table: 100})
	h.Paths = append(h.Paths, Path{Table: 100, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: Unicast, Out: "eth1"})
	far := addrPort("203.0.113.7:443")
	for proto, want := range map[Proto]Fate{TCP: {Out: "eth1"}, UDP: {Kind: Unknown}, ICMP: {Out: "eth0"}} {
		f := NewEvaluator(h).Evaluate(Packet{Proto: proto, Dst: far, Socket: &Socket{}}, nil).Fate
		if f.Kind != want.Kind || f.Out != want.Out || f.Src.Addr() != netip.MustParseAddr("192.0.2.2") {
			t.Errorf("protocol %d ends as %+v, want %+v", proto, f, want)
		}
	}
}

func TestLookupsByMark(t *testing.T) {
	h := podHost()
	h.Lookups = slices.Insert(h.Lookups, 1, Lookup{Family: IPv4, Priority: 50, Mark: 0x11, Mask: 1, Table: 100})
	h.Paths = append(h.Paths, Path{Table: 100, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: Unicast, Out: "eth1"})
	for mark, out := range map[Mark]string{0: "eth0", 0x10: "eth0", 1: "eth1", 0x11: "eth1", 0x21: "eth1"} {
		f := NewEvaluator(h).Evaluate(Packet{Proto: ICMP, Dst: addrPort("203.0.113.7:0"), Mark: mark}, nil).Fate
		if f.Out != out {
			t.Errorf("mark %#x under a rule for 0x11/0x1 leaves by %q, want %q", mark, f.Out, out)
		}
	}
}

// TestTypesOfAddresses: of IPv6, fib tells the type of the whole route.
func TestTypesOfAddresses(t *testing.T) {
	h := podHost()
	path := func(table uint32, dst string, typ AddrType) {
		h.Paths = append(h.Paths, Path{Table: table, Dst: netip.MustParsePrefix(dst), Type: typ, Out: "eth0"})
	}
	path(mainTable, "::/0", Unicast)
	path(mainTable, "2001:db8:b::/48", blackhole)
	path(mainTable, "2001:db8:c::/48", prohibit)
	path(mainTable, "2001:db8:d::/48", unreachable)
	path(mainTable, "2001:db8:e::/48", throw)
	path(localTable, "2001:db8::/128", anycast)
	path(100, "::/0", Local)
	path(mainTable, "203.0.113.0/24", blackhole)
	to := func(text string) Lookup { return Lookup{Family: IPv6, To: netip.MustParsePrefix(text)} }
	here, fromUs, strange := to("2001:db8:aa::/48"), to("2001:db8:ad::/48"), to("2001:db8:f::/48")
	here.Table, fromUs.Table, strange.Strange = 100, 100, "a rule of which little is known"
	fromUs.From = netip.MustParsePrefix("2001:db8::2/128")
	h.Lookups = slices.Insert(h.Lookups, 0, here, fromUs, strange)
	for text, want := range map[string]AddrType{
		"2001:db8::2": Local, "2001:db8::": anycast, "2001:db8:b::1": blackhole, "2001:db8:c::1": prohibit, "2001:db8:d::1": unreachable,
		"2001:db8:e::1": unreachable, "2001:db8:aa::1": Local, "2001:db8:ad::1": Local, "2001:db9::1": Unicast, "203.0.113.7": Unicast, "192.0.2.2": Local,
	} {
		got, why := h.fibType(netip.MustParseAddr(text), netip.MustParseAddr("2001:db8::2"))
		if got != want || why != "" {
			t.Errorf("%s is of type %d, want %d: %s", text, got, want, why)
		}
	}
	drops := on(FilterType, Prerouting, 0, "c", nodes(FibSaddrType.Is(prohibit), Drop()))
	p := Packet{Proto: TCP, Src: addrPort("[2001:db8:f::1]:40000"), Dst: addrPort("[2001:db8::2]:80"), In: "eth0"}
	if f := NewEvaluator(h, Ruleset{Table: &Table{Name: "t", Chains: []*Chain{drops}}}).Evaluate(p, nil).Fate; f.Kind != Unknown {
		t.Errorf("a route that is not known has a type, and the fate is %+v", f)
	}
}

// TestOwnAddressesComeBack: with accept_local this host's addresses may come by a
// link, by a strict one those that stand on it.
func TestOwnAddressesComeBack(t *testing.T) {
	for _, tt := range []struct {
		filter ReversePath
		accept bool
		src    string
		here   bool
	}{
		{AnyPath, false, "192.0.2.2:40000", false},
		{LoosePath, false, "192.0.2.2:40000", false},
		{AnyPath, true, "198.51.100.2:40000", true},
		{LoosePath, true, "198.51.100.2:40000", true},
		{StrictPath, true, "198.51.100.2:40000", false},
		{StrictPath, true, "192.0.2.2:40000", true},
		{StrictPath, true, "192.0.2.7:40000", true},
		{StrictPath, true, "198.51.100.7:40000", false},
	} {
		h := podHost()
		l := h.link("eth0")
		l.ReversePath, l.AcceptLocal = tt.filter, tt.accept
		f := NewEvaluator(h).Evaluate(Packet{Proto: TCP, Src: addrPort(tt.src), Dst: addrPort("192.0.2.2:8080"), In: "eth0"}, nil).Fate
		if f.Here != tt.here {
			t.Errorf("from %s, rp_filter %d, accept_local %v: %+v", tt.src, tt.filter, tt.accept, f)
		}
	}
}

// TestRedirectKeepsTheScope: what comes for a link-local address goes to one, what
// comes for a global address to the first, whatever its scope.
func TestRedirectKeepsTheScope(t *testing.T) {
	const global, link, site = "2001:db8::2/64", "fe80::2/64", "fec0::2/64"
	redirect := Ruleset{Table: &Table{Name: "t", Chains: []*Chain{on(NATType, Prerouting, -100, "nat", nodes(L4Proto.Is(UDP), RedirectTo(10)))}}}
	for _, tt := range []struct {
		has []string
		dst string
		to  string // "": nowhere
	}{
		{[]string{global, link}, "[2001:db8::2]:9", "[2001:db8::2]:10"},
		{[]string{global, link}, "[fe80::2]:9", "[fe80::2]:10"},
		{[]string{link}, "[2001:db8::2]:9", "[fe80::2]:10"},
		{[]string{global}, "[fe80::2]:9", ""},
		{[]string{global, site, link}, "[fec0::2]:9", "[fec0::2]:10"},
		{[]string{"169.254.0.2/16", "192.0.2.2/24"}, "192.0.2.2:9", "169.254.0.2:10"},
	} {
		l := Link{Name: "eth0"}
		for _, a := range tt.has {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		p := Packet{Proto: UDP, Src: addrPort("[2001:db8::1]:40000"), Dst: addrPort(tt.dst), In: "eth0"}
		if p.Family() == IPv4 {
			p.Src = addrPort("192.0.2.1:40000")
		}
		f := NewEvaluator(NewHost(l), redirect).Evaluate(p, nil).Fate
		if dropped := f.Kind == Dropped; dropped != (tt.to == "") || !dropped && f.Dst.String() != tt.to {
			t.Errorf("%s by a link with %q: %+v, want %q", tt.dst, tt.has, f, tt.to)
		}
	}
}

// TestStrangeValuesDoNotPanic: of what the API takes and no kernel has.
func TestStrangeValuesDoNotPanic(t *testing.T) {
	drops := func(m Match) Ruleset {
		return Ruleset{Table: &Table{Name: "t", Chains: []*Chain{on(FilterType, Input, 0, "c", nodes(m, Drop()))}}}
	}
	h := podHost()
	h.Links = append(h.Links, Link{Name: "a-name-of-over-16-bytes", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24")}})
	h.Sockets = []Socket{{Proto: TCP, Local: addrPort("192.0.2.2:8080"), Cgroups: []CgroupID{1}}}
	p := Packet{Proto: TCP, Src: addrPort("192.0.2.1:40000"), Dst: addrPort("192.0.2.2:8080"), In: "a-name-of-over-16-bytes"}
	if f := NewEvaluator(h, drops(IIfName.Is("a-name-of-over-1*"))).Evaluate(p, nil).Fate; f.Kind != Dropped {
		t.Errorf("a long name is cut: %+v", f)
	}
	if f := NewEvaluator(h, drops(SocketCgroup(0).Is(1))).Evaluate(p, nil).Fate; f.Kind != Unknown {
		t.Errorf("a cgroup of level 0: %+v", f)
	}
}

// TestNatSeesFirstPackets: of connections that are new, and of those that another
// one led the kernel to expect.
func TestNatSeesFirstPackets(t *testing.T) {
	e := EvaluatorOf(State{Table: &Table{Name: "t", Chains: []*Chain{on(NATType, Output, -100, "nat", nodes(Redirect{}))}}}, podHost())
	for _, tt := range []struct {
		proto Proto
		state CTState
		want  FateKind
	}{
		{TCP, New, Redirected}, {TCP, Related, Redirected}, {UDP, Related, Redirected}, {ICMP, New, Redirected},
		{TCP, Established, Untouched}, {ICMP, Related, Untouched}, {TCP, Untracked, Untouched}, {TCP, Invalid, Untouched},
	} {
		f := e.Evaluate(Packet{Proto: tt.proto, Dst: addrPort("203.0.113.7:443"), State: tt.state}, nil).Fate
		if f.Kind != tt.want {
			t.Errorf("protocol %d, state %d: %+v", tt.proto, tt.state, f)
		}
	}
}

func TestLinksForward(t *testing.T) {
	h := podHost()
	p := Packet{Proto: TCP, Src: addrPort("192.0.2.7:40000"), Dst: addrPort("198.51.100.7:80"), In: "eth0"}
	if f := NewEvaluator(h).Evaluate(p, nil).Fate; f.Kind != Lost {
		t.Errorf("no link passes packets on, and the fate is %+v", f)
	}
	h.link("eth0").Forwards = []Family{IPv4}
	if f := NewEvaluator(h).Evaluate(p, nil).Fate; f.Kind != Untouched || f.Out != "eth1" {
		t.Errorf("the link that it comes by passes it on, and the fate is %+v", f)
	}
}

func TestAnswersComeBack(t *testing.T) {
	app := &Socket{UID: 1000}
	e := EvaluatorOf(State{Table: &Table{Name: "t", Chains: []*Chain{on(NATType, Output, -100, "nat", nodes(L4Proto.Is(TCP), SkUID.Is(1000), RedirectTo(15006)))}}}, podHost())
	x := e.Connect(Packet{Proto: TCP, Dst: addrPort("203.0.113.7:443"), Src: addrPort("0.0.0.0:40000"), Socket: app}, new(Tracker))
	if x.End != Works || x.Answer.Fate.Src != addrPort("203.0.113.7:443") || x.First.Fate.Recovered() != addrPort("203.0.113.7:443") {
		t.Errorf("the answer to a redirected connection comes from where the application asked: %+v", x)
	}
	if x = e.Connect(Packet{Proto: TCP, Dst: addrPort("203.0.113.7:443"), Src: addrPort("0.0.0.0:40000"), Socket: app}, nil); x.End != Works {
		t.Errorf("without a tracker too: %+v", x)
	}
	x = e.Connect(Packet{Proto: TCP, Dst: addrPort("192.0.2.2:9"), Socket: app, Mark: 0}, new(Tracker))
	if x.End != Works {
		t.Errorf("its own pod's address is redirected too: %+v", x)
	}
	x = e.Connect(Packet{Proto: TCP, Dst: addrPort("192.0.2.2:9"), Socket: &Socket{}}, new(Tracker))
	if x.End != Refused {
		t.Errorf("nobody listens on port 9: %+v", x)
	}
	spoofed := Packet{Proto: TCP, Src: addrPort("203.0.113.7:443"), Dst: addrPort("192.0.2.2:9"), Socket: &Socket{Transparent: true}}
	if x = e.Connect(spoofed, new(Tracker)); x.End != NoAnswer || x.Answer.Fate.Here {
		t.Errorf("the refusal goes to the host that has the client's address: %+v", x)
	}
}

// TestConntrackIsOnWhereARuleNeedsIt: a nat chain alone is never called.
func TestConntrackIsOnWhereARuleNeedsIt(t *testing.T) {
	drops := &Table{Name: "t", Chains: []*Chain{on(NATType, Output, -100, "nat", nodes(UDPDport.Is(80), Drop()))}}
	beside := func(f Family, n ...Node) Ruleset {
		return Ruleset{&Table{Name: "beside", Chains: []*Chain{{Name: "unused", Rules: []Rule{{Nodes: n}}}}}, f}
	}
	dormant := beside(0, CTStates.Is(New))
	dormant.Others = []string{DormantTable}
	for _, tt := range []struct {
		why    string
		beside Ruleset
		on     bool
	}{
		{"nothing needs it", beside(0, Accept()), false},
		{"what knows no connection", beside(0, SocketTransparent.Is(true), FibDaddrType.Is(Local), SetMark(1, 1), Jump("unused")), false},
		{"notrack alone", beside(0, NoTrack{}), false},
		{"a state is read", beside(0, CTStates.Is(New)), true},
		{"a map is keyed by a mark", beside(0, VMap{Key: []Selector{Selector(CTMark)}}), true},
		{"a zone is set", beside(0, SetZone(1)), true},
		{"a mark is set", beside(0, SetCTMark(1, ^Mark(0))), true},
		{"a mark is copied", beside(0, Copy(MetaMark, CTMark)), true},
		{"redirect", beside(0, Redirect{}), true},
		{"snat of the family", beside(0, SNAT{netip.MustParseAddr("192.0.2.2")}), true},
		{"snat of the other family", beside(0, SNAT{netip.MustParseAddr("2001:db8::2")}), false},
		{"something that is not known", beside(0, Opaque{Name: "target"}), true},
		{"a dormant table", dormant, true},
		{"a table of the family", beside(IPv4, CTStates.Is(New)), true},
		{"a table of the other family", beside(IPv6, CTStates.Is(New)), false},
	} {
		e := NewEvaluator(podHost(), Ruleset{Table: drops}, tt.beside)
		f := e.Evaluate(Packet{Proto: UDP, Dst: addrPort("203.0.113.7:80")}, nil).Fate
		if f.Tracked != tt.on || (f.Kind == Dropped) != tt.on {
			t.Errorf("%s: %+v", tt.why, f)
		}
	}
}

func TestOverlappingElementsAreFound(t *testing.T) {
	table := &Table{Name: "t"}
	ports := AddSet(table, "ports", TCPDport, Between[Port](15020, 15030), Span(Port(15021)))
	table.Chains = []*Chain{on(FilterType, Output, 0, "c", nodes(TCPDport.InSet(ports), Drop()))}
	f := EvaluatorOf(State{Table: table}, podHost()).Evaluate(Packet{Proto: TCP, Dst: addrPort("203.0.113.7:15025")}, nil).Fate
	if f.Kind != Dropped {
		t.Errorf("15025 is in 15020-15030, whatever else the set holds: %+v", f)
	}
}

func TestSteps(t *testing.T) {
	c := &Chain{Name: "output", Base: &Base{Type: NATType, Hook: Output, Priority: -100}}
	c.Add("the proxy", SkUID.Is(1337), Counter{}, Return())
	c.Add("everything else", L4Proto.Is(TCP), Counter{}, RedirectTo(15001))
	j := EvaluatorOf(State{Table: &Table{Name: "t", Chains: []*Chain{c}}}, podHost()).
		Evaluate(Packet{Proto: TCP, Dst: addrPort("203.0.113.7:443"), Socket: &Socket{UID: 1000}}, nil)
	want := Step{Hook: Output, Table: "t", Chain: "output", Type: NATType, Priority: -100, Rule: 2, Reason: "everything else", Does: "redirect to :15001", Verdict: Accept()}
	if !slices.Contains(j.Steps, want) || j.Decision() != want {
		t.Errorf("the path holds the rule that decided alone: %+v", j.Steps)
	}
}

// TestStepThatHandsOn: what hands a packet to a transparent socket decided, whatever
// else the rule does and whatever rules follow.
func TestStepThatHandsOn(t *testing.T) {
	c := on(FilterType, Prerouting, -150, "c")
	c.Add("to the proxy", L4Proto.Is(TCP), SetMark(1, ^Mark(0)), TProxy{Port: 15006}, Accept())
	later := on(FilterType, Prerouting, 0, "later", nodes(Accept()))
	j := EvaluatorOf(State{Table: &Table{Name: "t", Chains: []*Chain{c, later}}}, podHost()).
		Evaluate(Packet{Proto: TCP, Src: addrPort("192.0.2.7:40000"), Dst: addrPort("192.0.2.2:8080"), In: "eth0"}, nil)
	if got := j.Decision(); j.Fate.Kind != Proxied || got.Reason != "to the proxy" || !got.HandsOn {
		t.Errorf("decided by %+v, ends as %+v", got, j.Fate)
	}
}

// TestStepOfAPolicy says what the policy does, and nothing of the rules before.
func TestStepOfAPolicy(t *testing.T) {
	c := on(FilterType, Output, 0, "c", nodes(SetMark(1, ^Mark(0))))
	c.Base.Drop = true
	j := EvaluatorOf(State{Table: &Table{Name: "t", Chains: []*Chain{c}}}, podHost()).Evaluate(Packet{Proto: TCP, Dst: addrPort("203.0.113.7:443")}, nil)
	if got := j.Decision(); got.Does != "policy drop" {
		t.Errorf("decided by %+v", got)
	}
}
