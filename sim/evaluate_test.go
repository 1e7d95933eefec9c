// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

func addrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// podHost is a host at eth0 and eth1, with a transparent listener on 15006 and a
// plain one on 8080.
func podHost() Host {
	h := NewHost(
		Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}},
		Link{Name: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24")}})
	h.Routes = append(h.Routes, Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0"})
	for _, port := range []uint16{15006, 8080} {
		h.Sockets = append(h.Sockets, Socket{Proto: rules.TCP, Local: netip.AddrPortFrom(netip.IPv4Unspecified(), port), Transparent: port == 15006, UID: 1337})
	}
	return h
}

// on is a base chain of those rules.
func on(typ rules.ChainType, hook rules.Hook, priority int32, name string, list ...[]rules.Node) *rules.Chain {
	c := &rules.Chain{Name: name, Base: &rules.Base{Type: typ, Hook: hook, Priority: priority}}
	for _, nodes := range list {
		c.Add("", nodes...)
	}
	return c
}

func nodes(n ...rules.Node) []rules.Node { return n }

func TestEvaluate(t *testing.T) {
	app := &Socket{UID: 1000, GID: 1000}
	out := Packet{Proto: rules.TCP, Dst: addrPort("203.0.113.7:443"), Socket: app}
	in := Packet{Proto: rules.TCP, Src: addrPort("203.0.113.7:40000"), Dst: addrPort("192.0.2.2:8080"), In: "eth0"}
	isTCP := rules.L4Proto.Is(rules.TCP)
	between := rules.RangeBetween(rules.Port(8000), rules.Port(8100))
	marked := func(m rules.Mark, then ...rules.Node) []rules.Node {
		return append(nodes(rules.MetaMark.Is(m)), then...)
	}
	set := func(m rules.Mark) rules.Node { return rules.MetaMark.Set(m) }
	regular := func(name string, list ...[]rules.Node) *rules.Chain {
		c := on("", 0, 0, name, list...)
		c.Base = nil
		return c
	}
	for _, tt := range []struct {
		why    string
		packet Packet
		chains []*rules.Chain
		want   Fate // of which the kind, the destination, the mark and the connection's are compared
	}{
		{"nothing decides: it leaves", out, nil, Fate{Dst: out.Dst, Out: "eth0"}},
		{"a redirect on the way out goes to this host's loopback address", out,
			[]*rules.Chain{on(rules.NATType, rules.Output, -100, "nat", nodes(isTCP, rules.RedirectTo(15006)))},
			Fate{Kind: Redirected, Dst: addrPort("127.0.0.1:15006"), Here: true}},
		{"a redirect on the way in goes to the first address of the interface", in,
			[]*rules.Chain{on(rules.NATType, rules.Prerouting, -100, "nat", nodes(isTCP, rules.RedirectTo(15006)))},
			Fate{Kind: Redirected, Dst: addrPort("192.0.2.2:15006"), Here: true}},
		{"a port within a redirect's range stays", in,
			[]*rules.Chain{on(rules.NATType, rules.Prerouting, -100, "nat", nodes(isTCP, rules.Redirect{Ports: &between}))},
			Fate{Dst: in.Dst, Here: true}},
		{"nat decides once for a connection, not again over lo", out,
			[]*rules.Chain{on(rules.NATType, rules.Output, -100, "nat", nodes(isTCP, rules.RedirectTo(15006))), on(rules.NATType, rules.Prerouting, -100, "again", nodes(isTCP, rules.RedirectTo(8080)))},
			Fate{Kind: Redirected, Dst: addrPort("127.0.0.1:15006"), Here: true}},
		{"accept ends one base chain, and the next still sees the packet", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "first", nodes(rules.Accept()), nodes(rules.Drop())), on(rules.FilterType, rules.Output, 1, "second", nodes(set(5)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 5}},
		{"return from a base chain is its policy", out,
			[]*rules.Chain{{Name: "c", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Output, Drop: true}, Rules: []rules.Rule{{Nodes: nodes(rules.Return())}, {Nodes: nodes(rules.Accept())}}}},
			Fate{Kind: Dropped, Dst: out.Dst}},
		{"return from a jump goes on after it", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.Jump("r")), nodes(set(2))), regular("r", nodes(rules.Return()), nodes(rules.Drop()))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 2}},
		{"after a goto nothing more of the chain is run", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.Goto("r")), nodes(rules.Drop())), regular("r", nodes(set(3)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 3}},
		{"of equal priorities the chain that was made last comes first", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "first", marked(1, set(2))), on(rules.FilterType, rules.Output, 0, "second", nodes(set(1)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 2}},
		{"nat stands at its own priority, whatever its chains say", out,
			[]*rules.Chain{on(rules.NATType, rules.Output, 50, "nat", nodes(isTCP, rules.RedirectTo(15006))), on(rules.FilterType, rules.Output, -50, "filter", nodes(rules.TCPDport.Is(15006), set(1)))},
			Fate{Kind: Redirected, Dst: addrPort("127.0.0.1:15006"), Here: true, Mark: 1}},
		{"a verdict map without an element for it has no effect", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Elements: []rules.Element{{Key: []rules.Range{rules.RangeOf(rules.Port(80))}, Verdict: rules.Drop()}}}), nodes(set(4)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 4}},
		{"a verdict map that says continue lets the rule go on", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Elements: []rules.Element{{Key: []rules.Range{rules.RangeOf(rules.Port(443))}, Verdict: rules.Verdict{Kind: rules.ContinueKind}}}}, rules.Drop()))},
			Fate{Kind: Dropped, Dst: out.Dst}},
		{"what cannot be read matches nothing, negated or not", Packet{Proto: rules.TCP, Dst: out.Dst},
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.SkUID.Not(1000), rules.Drop()))},
			Fate{Dst: out.Dst, Out: "eth0"}},
		{"an interface that is not there has an empty name, and is not lo", in,
			[]*rules.Chain{on(rules.FilterType, rules.Prerouting, 0, "c", nodes(rules.OIfName.Not("lo"), rules.Drop()))},
			Fate{Kind: Dropped, Dst: in.Dst}},
		{"without a transparent socket tproxy ends the rule", in,
			[]*rules.Chain{on(rules.FilterType, rules.Prerouting, 0, "c", nodes(isTCP, rules.TProxy{Port: 8080}, set(1)))},
			Fate{Dst: in.Dst, Here: true}},
		{"tproxy delivers to a transparent socket, addresses unchanged", in,
			[]*rules.Chain{on(rules.FilterType, rules.Prerouting, 0, "c", nodes(isTCP, rules.TProxy{Port: 15006}))},
			Fate{Kind: Proxied, Dst: in.Dst, Here: true}},
		{"before conntrack every packet is invalid", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, rules.PriorityRaw, "c", nodes(rules.CTStates.Is(rules.CTInvalid), set(1)))},
			Fate{Dst: out.Dst, Out: "eth0", Mark: 1}},
		{"the first zone that is set stays, and notrack comes too late", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, rules.PriorityRaw, "c", nodes(rules.CTZone.Set(7)), nodes(rules.CTZone.Set(8)), nodes(rules.NoTrack{})), on(rules.FilterType, rules.Output, 0, "d", nodes(rules.CTZone.Is(7), rules.CTMark.Set(9)))},
			Fate{Dst: out.Dst, Out: "eth0", Tracked: true, Zone: 7, CTMark: 9}},
		{"what is not tracked meets no nat", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, rules.PriorityRaw, "c", nodes(rules.NoTrack{})), on(rules.NATType, rules.Output, -100, "nat", nodes(isTCP, rules.RedirectTo(15006)))},
			Fate{Dst: out.Dst, Out: "eth0"}},
		{"an opaque rule makes the fate unknown", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.TCPDport.Is(443), rules.Opaque{Name: "xt match"}))},
			Fate{Kind: Unknown, Dst: out.Dst}},
		{"a port of a packet that has none is whatever stands there", Packet{Proto: rules.ICMP, Dst: out.Dst},
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.ThDport.Is(53), rules.Drop()))},
			Fate{Kind: Unknown, Dst: out.Dst}},
		{"an opaque rule that is not reached decides nothing", out,
			[]*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.TCPDport.Is(80), rules.Opaque{Name: "xt match"}))},
			Fate{Dst: out.Dst, Out: "eth0"}},
	} {
		got := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: tt.chains}}, podHost()).Evaluate(tt.packet, nil).Fate
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
func markedRoute(chains ...*rules.Chain) rules.State {
	return rules.State{
		Table:       &rules.Table{Name: "t", Chains: chains},
		PolicyRules: []rules.PolicyRule{{Family: rules.IPv4, Priority: 100, Mark: 1, Mask: ^rules.Mark(0), Table: 100}},
		Routes:      []rules.Route{{Family: rules.IPv4, Table: 100, Dst: netip.MustParsePrefix("0.0.0.0/0")}},
	}
}

func TestChangedMarksReroute(t *testing.T) {
	p := Packet{Proto: rules.TCP, Dst: addrPort("203.0.113.7:443")}
	mark := nodes(rules.MetaMark.Is(0), rules.MetaMark.Set(1))
	stale := nodes(rules.OIfName.Is("eth0"), rules.CTMark.Set(2))
	for _, tt := range []struct {
		why  string
		typ  rules.ChainType
		here bool
	}{
		{"a mark that a route chain changes takes the packet to this host", rules.RouteType, true},
		{"one that a filter chain changes does not", rules.FilterType, false},
	} {
		f := EvaluatorOf(markedRoute(on(tt.typ, rules.Output, -150, "mark", mark), on(rules.FilterType, rules.Output, 0, "see", stale)), podHost()).Evaluate(p, nil).Fate
		if f.Here != tt.here || f.CTMark != 2 {
			t.Errorf("%s, and oifname stays as it was for the hook's later chains: %+v", tt.why, f)
		}
	}
}

// TestRouteBySource: policy rules about the source see it once the first route gave
// one, of TCP and of what a connected socket sends.
func TestRouteBySource(t *testing.T) {
	h := podHost()
	h.PolicyRules = slices.Insert(h.PolicyRules, 1, PolicyRule{Family: rules.IPv4, Priority: 500, From: netip.MustParsePrefix("192.0.2.2/32"), Table: 100})
	h.Routes = append(h.Routes, Route{Table: 100, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth1"})
	far := addrPort("203.0.113.7:443")
	for proto, want := range map[rules.Proto]Fate{rules.TCP: {Out: "eth1"}, rules.UDP: {Kind: Unknown}, rules.ICMP: {Out: "eth0"}} {
		f := NewEvaluator(h).Evaluate(Packet{Proto: proto, Dst: far, Socket: &Socket{}}, nil).Fate
		if f.Kind != want.Kind || f.Out != want.Out || f.Src.Addr() != netip.MustParseAddr("192.0.2.2") {
			t.Errorf("protocol %d ends as %+v, want %+v", proto, f, want)
		}
	}
}

func TestLookupsByMark(t *testing.T) {
	h := podHost()
	h.PolicyRules = slices.Insert(h.PolicyRules, 1, PolicyRule{Family: rules.IPv4, Priority: 50, Mark: 0x11, Mask: 1, Table: 100})
	h.Routes = append(h.Routes, Route{Table: 100, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth1"})
	for mark, out := range map[rules.Mark]string{0: "eth0", 0x10: "eth0", 1: "eth1", 0x11: "eth1", 0x21: "eth1"} {
		f := NewEvaluator(h).Evaluate(Packet{Proto: rules.ICMP, Dst: addrPort("203.0.113.7:0"), Mark: mark}, nil).Fate
		if f.Out != out {
			t.Errorf("mark %#x under a rule for 0x11/0x1 leaves by %q, want %q", mark, f.Out, out)
		}
	}
}

// TestTypesOfAddresses: of IPv6, fib tells the type of the whole route.
func TestTypesOfAddresses(t *testing.T) {
	h := podHost()
	path := func(table uint32, dst string, typ rules.AddrType) {
		h.Routes = append(h.Routes, Route{Table: table, Dst: netip.MustParsePrefix(dst), Type: typ, Out: "eth0"})
	}
	path(rules.MainTable, "::/0", rules.Unicast)
	path(rules.MainTable, "2001:db8:b::/48", blackhole)
	path(rules.MainTable, "2001:db8:c::/48", prohibit)
	path(rules.MainTable, "2001:db8:d::/48", unreachable)
	path(rules.MainTable, "2001:db8:e::/48", throw)
	path(rules.LocalTable, "2001:db8::/128", anycast)
	path(100, "::/0", rules.Local)
	path(rules.MainTable, "203.0.113.0/24", blackhole)
	to := func(text string) PolicyRule { return PolicyRule{Family: rules.IPv6, To: netip.MustParsePrefix(text)} }
	here, fromUs, strange := to("2001:db8:aa::/48"), to("2001:db8:ad::/48"), to("2001:db8:f::/48")
	here.Table, fromUs.Table, strange.Unsupported = 100, 100, "a rule of which little is known"
	fromUs.From = netip.MustParsePrefix("2001:db8::2/128")
	h.PolicyRules = slices.Insert(h.PolicyRules, 0, here, fromUs, strange)
	of := &walk{Evaluator: NewEvaluator(h)}
	for text, want := range map[string]rules.AddrType{
		"2001:db8::2": rules.Local, "2001:db8::": anycast, "2001:db8:b::1": blackhole, "2001:db8:c::1": prohibit, "2001:db8:d::1": unreachable,
		"2001:db8:e::1": unreachable, "2001:db8:aa::1": rules.Local, "2001:db8:ad::1": rules.Local, "2001:db9::1": rules.Unicast, "203.0.113.7": rules.Unicast, "192.0.2.2": rules.Local,
	} {
		got, why := of.fibType(fib{address: netip.MustParseAddr(text), other: netip.MustParseAddr("2001:db8::2")})
		if got != want || why != "" {
			t.Errorf("%s is of type %d, want %d: %s", text, got, want, why)
		}
	}
	drops := on(rules.FilterType, rules.Prerouting, 0, "c", nodes(rules.FibSaddr.Type().Is(prohibit), rules.Drop()))
	p := Packet{Proto: rules.TCP, Src: addrPort("[2001:db8:f::1]:40000"), Dst: addrPort("[2001:db8::2]:80"), In: "eth0"}
	if f := NewEvaluator(h, Table{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{drops}}}).Evaluate(p, nil).Fate; f.Kind != Unknown {
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
		f := NewEvaluator(h).Evaluate(Packet{Proto: rules.TCP, Src: addrPort(tt.src), Dst: addrPort("192.0.2.2:8080"), In: "eth0"}, nil).Fate
		if f.Here != tt.here {
			t.Errorf("from %s, rp_filter %d, accept_local %v: %+v", tt.src, tt.filter, tt.accept, f)
		}
	}
}

// TestRedirectKeepsTheScope: what comes for a link-local address goes to one, what
// comes for a global address to the first, whatever its scope.
func TestRedirectKeepsTheScope(t *testing.T) {
	const global, link, site = "2001:db8::2/64", "fe80::2/64", "fec0::2/64"
	redirect := Table{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{on(rules.NATType, rules.Prerouting, -100, "nat", nodes(rules.L4Proto.Is(rules.UDP), rules.RedirectTo(10)))}}}
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
		p := Packet{Proto: rules.UDP, Src: addrPort("[2001:db8::1]:40000"), Dst: addrPort(tt.dst), In: "eth0"}
		if p.Family() == rules.IPv4 {
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
	drops := func(m rules.Match) Table {
		return Table{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{on(rules.FilterType, rules.Input, 0, "c", nodes(m, rules.Drop()))}}}
	}
	h := podHost()
	h.Links = append(h.Links, Link{Name: "a-name-of-over-16-bytes", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24")}})
	h.Sockets = []Socket{{Proto: rules.TCP, Local: addrPort("192.0.2.2:8080"), Cgroups: []rules.CgroupID{1}}}
	p := Packet{Proto: rules.TCP, Src: addrPort("192.0.2.1:40000"), Dst: addrPort("192.0.2.2:8080"), In: "a-name-of-over-16-bytes"}
	if f := NewEvaluator(h, drops(rules.IIfName.Is("a-name-of-over-1*"))).Evaluate(p, nil).Fate; f.Kind != Dropped {
		t.Errorf("a long name is cut: %+v", f)
	}
	if f := NewEvaluator(h, drops(rules.SocketCgroup(0).Is(1))).Evaluate(p, nil).Fate; f.Kind != Unknown {
		t.Errorf("a cgroup of level 0: %+v", f)
	}
}

// TestNatSeesFirstPackets: of connections that are new, and of those that another
// one led the kernel to expect.
func TestNatSeesFirstPackets(t *testing.T) {
	e := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{on(rules.NATType, rules.Output, -100, "nat", nodes(rules.Redirect{}))}}}, podHost())
	for _, tt := range []struct {
		proto rules.Proto
		state rules.CTState
		want  FateKind
	}{
		{rules.TCP, rules.CTNew, Redirected}, {rules.TCP, rules.CTRelated, Redirected}, {rules.UDP, rules.CTRelated, Redirected}, {rules.ICMP, rules.CTNew, Redirected},
		{rules.TCP, rules.CTEstablished, Untouched}, {rules.ICMP, rules.CTRelated, Untouched}, {rules.TCP, rules.CTUntracked, Untouched}, {rules.TCP, rules.CTInvalid, Untouched},
	} {
		f := e.Evaluate(Packet{Proto: tt.proto, Dst: addrPort("203.0.113.7:443"), State: tt.state}, nil).Fate
		if f.Kind != tt.want {
			t.Errorf("protocol %d, state %d: %+v", tt.proto, tt.state, f)
		}
	}
}

func TestLinksForward(t *testing.T) {
	h := podHost()
	p := Packet{Proto: rules.TCP, Src: addrPort("192.0.2.7:40000"), Dst: addrPort("198.51.100.7:80"), In: "eth0"}
	if f := NewEvaluator(h).Evaluate(p, nil).Fate; f.Kind != LostInRouting {
		t.Errorf("no link passes packets on, and the fate is %+v", f)
	}
	h.link("eth0").Forwards = []rules.Family{rules.IPv4}
	if f := NewEvaluator(h).Evaluate(p, nil).Fate; f.Kind != Untouched || f.Out != "eth1" {
		t.Errorf("the link that it comes by passes it on, and the fate is %+v", f)
	}
}

func TestAnswersComeBack(t *testing.T) {
	app := &Socket{UID: 1000}
	e := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{on(rules.NATType, rules.Output, -100, "nat", nodes(rules.L4Proto.Is(rules.TCP), rules.SkUID.Is(1000), rules.RedirectTo(15006)))}}}, podHost())
	x := e.Connect(Packet{Proto: rules.TCP, Dst: addrPort("203.0.113.7:443"), Src: addrPort("0.0.0.0:40000"), Socket: app}, new(Tracker))
	if x.End != Completed || x.Answer.Fate.Src != addrPort("203.0.113.7:443") || x.First.Fate.Recovered() != addrPort("203.0.113.7:443") {
		t.Errorf("the answer to a redirected connection comes from where the application asked: %+v", x)
	}
	if x = e.Connect(Packet{Proto: rules.TCP, Dst: addrPort("203.0.113.7:443"), Src: addrPort("0.0.0.0:40000"), Socket: app}, nil); x.End != Completed {
		t.Errorf("without a tracker too: %+v", x)
	}
	x = e.Connect(Packet{Proto: rules.TCP, Dst: addrPort("192.0.2.2:9"), Socket: app, Mark: 0}, new(Tracker))
	if x.End != Completed {
		t.Errorf("its own pod's address is redirected too: %+v", x)
	}
	x = e.Connect(Packet{Proto: rules.TCP, Dst: addrPort("192.0.2.2:9"), Socket: &Socket{}}, new(Tracker))
	if x.End != Refused {
		t.Errorf("nothing listens on port 9: %+v", x)
	}
	spoofed := Packet{Proto: rules.TCP, Src: addrPort("203.0.113.7:443"), Dst: addrPort("192.0.2.2:9"), Socket: &Socket{Transparent: true}}
	if x = e.Connect(spoofed, new(Tracker)); x.End != NoAnswer || x.Answer.Fate.Here {
		t.Errorf("the refusal goes to the host that has the client's address: %+v", x)
	}
}

// TestConntrackIsOnWhereARuleNeedsIt: a nat chain alone is never called.
func TestConntrackIsOnWhereARuleNeedsIt(t *testing.T) {
	drops := &rules.Table{Name: "t", Chains: []*rules.Chain{on(rules.NATType, rules.Output, -100, "nat", nodes(rules.UDPDport.Is(80), rules.Drop()))}}
	beside := func(f rules.Family, n ...rules.Node) Table {
		return Table{Table: &rules.Table{Name: "beside", Chains: []*rules.Chain{{Name: "unused", Rules: []rules.Rule{{Nodes: n}}}}}, Family: f}
	}
	dormant := beside(0, rules.CTStates.Is(rules.CTNew))
	dormant.Dormant = true
	for _, tt := range []struct {
		why    string
		beside Table
		on     bool
	}{
		{"nothing needs it", beside(0, rules.Accept()), false},
		{"what knows no connection", beside(0, rules.SocketTransparent.Is(true), rules.FibDaddr.Type().Is(rules.Local), rules.MetaMark.SetMasked(1, 1), rules.Jump("unused")), false},
		{"notrack alone", beside(0, rules.NoTrack{}), false},
		{"a state is read", beside(0, rules.CTStates.Is(rules.CTNew)), true},
		{"a map is keyed by a mark", beside(0, rules.VMap{Key: []rules.Selector{rules.Selector(rules.CTMark)}}), true},
		{"a zone is set", beside(0, rules.CTZone.Set(1)), true},
		{"a mark is set", beside(0, rules.CTMark.Set(1)), true},
		{"a mark is copied", beside(0, rules.MetaMark.SetFrom(rules.CTMark)), true},
		{"redirect", beside(0, rules.Redirect{}), true},
		{"snat of the family", beside(0, rules.SNAT{To: netip.MustParseAddr("192.0.2.2")}), true},
		{"snat of the other family", beside(0, rules.SNAT{To: netip.MustParseAddr("2001:db8::2")}), false},
		{"something that is not known", beside(0, rules.Opaque{Name: "target"}), true},
		{"a dormant table", dormant, true},
		{"a table of the family", beside(rules.IPv4, rules.CTStates.Is(rules.CTNew)), true},
		{"a table of the other family", beside(rules.IPv6, rules.CTStates.Is(rules.CTNew)), false},
	} {
		e := NewEvaluator(podHost(), Table{Table: drops}, tt.beside)
		f := e.Evaluate(Packet{Proto: rules.UDP, Dst: addrPort("203.0.113.7:80")}, nil).Fate
		if f.Tracked != tt.on || (f.Kind == Dropped) != tt.on {
			t.Errorf("%s: %+v", tt.why, f)
		}
	}
}

func TestOverlappingElementsAreFound(t *testing.T) {
	table := &rules.Table{Name: "t"}
	ports := rules.TCPDport.AddSet(table, "ports", rules.RangeBetween[rules.Port](15020, 15030), rules.RangeOf(rules.Port(15021)))
	table.Chains = []*rules.Chain{on(rules.FilterType, rules.Output, 0, "c", nodes(rules.TCPDport.InSet(ports), rules.Drop()))}
	f := EvaluatorOf(rules.State{Table: table}, podHost()).Evaluate(Packet{Proto: rules.TCP, Dst: addrPort("203.0.113.7:15025")}, nil).Fate
	if f.Kind != Dropped {
		t.Errorf("15025 is in 15020-15030, whatever else the set holds: %+v", f)
	}
}

func TestSteps(t *testing.T) {
	c := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: -100}}
	c.Add("the proxy", rules.SkUID.Is(1337), rules.Counter{}, rules.Return())
	c.Add("everything else", rules.L4Proto.Is(rules.TCP), rules.Counter{}, rules.RedirectTo(15001))
	j := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{c}}}, podHost()).
		Evaluate(Packet{Proto: rules.TCP, Dst: addrPort("203.0.113.7:443"), Socket: &Socket{UID: 1000}}, nil)
	want := Step{Hook: rules.Output, Table: "t", Chain: "output", Type: rules.NATType, Priority: -100, Rule: 2, Reason: "everything else", Does: "redirect to :15001", Verdict: rules.Accept()}
	if !slices.Contains(j.Steps, want) || j.Decision() != want {
		t.Errorf("the path holds the rule that decided alone: %+v", j.Steps)
	}
}

// TestStepThatHandsOn: what hands a packet to a transparent socket decided, whatever
// else the rule does and whatever rules follow.
func TestStepThatHandsOn(t *testing.T) {
	c := on(rules.FilterType, rules.Prerouting, -150, "c")
	c.Add("to the proxy", rules.L4Proto.Is(rules.TCP), rules.MetaMark.Set(1), rules.TProxy{Port: 15006}, rules.Accept())
	later := on(rules.FilterType, rules.Prerouting, 0, "later", nodes(rules.Accept()))
	j := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{c, later}}}, podHost()).
		Evaluate(Packet{Proto: rules.TCP, Src: addrPort("192.0.2.7:40000"), Dst: addrPort("192.0.2.2:8080"), In: "eth0"}, nil)
	if got := j.Decision(); j.Fate.Kind != Proxied || got.Reason != "to the proxy" || !got.HandsOn {
		t.Errorf("decided by %+v, ends as %+v", got, j.Fate)
	}
}

// TestStepOfAPolicy says what the policy does, and nothing of the rules before.
func TestStepOfAPolicy(t *testing.T) {
	c := on(rules.FilterType, rules.Output, 0, "c", nodes(rules.MetaMark.Set(1)))
	c.Base.Drop = true
	j := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{c}}}, podHost()).Evaluate(Packet{Proto: rules.TCP, Dst: addrPort("203.0.113.7:443")}, nil)
	if got := j.Decision(); got.Does != "policy drop" {
		t.Errorf("decided by %+v", got)
	}
}
