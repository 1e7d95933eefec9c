// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// dice make states and packets at random, of values so few that they meet.
type dice struct{ *rand.Rand }

func one[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// oneIn is true one time in n.
func (d dice) oneIn(n int) bool { return d.IntN(n) == 0 }

func (d dice) port() rules.Port { return one[rules.Port](d, 53, 80, 443, 8080, 15001, 15006) }
func (d dice) mark() rules.Mark { return one[rules.Mark](d, 0, 1, 2, 3, 0x10) }

// bits are marks that some bits cover.
func (d dice) bits() rules.Mark { return one(d, ^rules.Mark(0), 1, 2, 3, 0xf0) }

var (
	diceV4 = []string{"127.0.0.0/8", "127.0.0.1/32", "198.18.0.0/16", "198.18.0.2/32", "198.18.1.0/24", "198.18.0.1/32", "203.0.113.0/24", "0.0.0.0/1"}
	diceV6 = []string{"::1/128", "2001:db8::/32", "2001:db8:18::2/128", "2001:db8:19::/64", "2001:db8:18::1/128", "8000::/1"}
)

func (d dice) v4() netip.Prefix { return netip.MustParsePrefix(one(d, diceV4...)) }
func (d dice) v6() netip.Prefix { return netip.MustParsePrefix(one(d, diceV6...)) }

// compared is a match of a selector against one value, several or a range.
func compared[T rules.Value](d dice, k rules.Key[T], value func() T) rules.Match {
	m := k.Is(value())
	switch d.IntN(4) {
	case 0:
		m = k.In(value(), value())
	case 1:
		if a, b := value(), value(); rules.RangeOf(a).Lo <= rules.RangeOf(b).Hi {
			m = k.Within(rules.RangeBetween(a, b))
		}
	}
	m.Negated = d.oneIn(3)
	return m
}

// marked is a match of a mark, at times under a mask.
func (d dice) marked(k rules.Key[rules.Mark]) rules.Match {
	if mask := d.bits(); d.oneIn(2) {
		return k.Masked(d.mark()&mask, mask)
	}
	return compared(d, k, d.mark)
}

func (d dice) match(t *rules.Table) rules.Match {
	if s := t.Sets[d.IntN(len(t.Sets))]; !s.Verdicts && d.oneIn(4) {
		m := rules.Match{Set: s.Name, Key: d.key(s)}
		m.Negated = d.oneIn(3)
		return m
	}
	id := func() rules.UID { return one[rules.UID](d, 0, 1000, 1337) }
	names := func() rules.IfName { return one[rules.IfName](d, "lo", "eth0", "eth1", "nic9") }
	switch d.IntN(24) {
	case 0:
		return compared(d, rules.NFProto, func() rules.Family { return one(d, bothFamilies...) })
	case 1:
		return d.marked(rules.MetaMark)
	case 2:
		return compared(d, one(d, rules.IIf, rules.OIf), func() rules.IfIndex { return rules.IfIndex(d.IntN(4)) })
	case 3:
		return compared(d, rules.IIfName, names)
	case 4:
		return compared(d, rules.OIfName, names)
	case 5:
		return rules.OIfName.Is("eth*")
	case 6:
		return compared(d, rules.SkUID, id)
	case 7:
		return compared(d, rules.SkGID, func() rules.GID { return rules.GID(id()) })
	case 8:
		return compared(d, rules.IPSaddr, d.v4)
	case 9:
		return compared(d, rules.IPDaddr, d.v4)
	case 10:
		return compared(d, rules.IP6Saddr, d.v6)
	case 11:
		return compared(d, rules.IP6Daddr, d.v6)
	case 12:
		return compared(d, rules.TCPDport, d.port)
	case 13:
		return compared(d, rules.UDPDport, d.port)
	case 14:
		return compared(d, rules.ThDport, d.port)
	case 15:
		return d.marked(rules.CTMark)
	case 16:
		return rules.CTStates.AnyOf(one(d, rules.CTNew, rules.CTEstablished|rules.CTInvalid, rules.CTUntracked))
	case 17:
		return compared(d, one(d, rules.CTZone, rules.CTOriginalZone), func() rules.Zone { return rules.Zone(d.IntN(3)) })
	case 18:
		return d.fib()
	case 22, 23:
		return d.fib()
	case 19:
		return rules.SocketTransparent.Is(d.oneIn(2))
	case 20:
		return d.marked(rules.SocketMark)
	}
	return rules.L4Proto.Is(one(d, rules.TCP, rules.UDP))
}

// fib is a match of a lookup of the packet's route, with whatever it can take into
// account.
func (d dice) fib() rules.Match {
	by := one[rules.FibFlag](d, 0, 0, rules.FibMark, rules.FibIIf, rules.FibMark|rules.FibIIf, rules.FibOIf, rules.FibMark|rules.FibOIf)
	switch d.IntN(4) {
	case 0:
		return compared(d, one(d, rules.FibSaddr.Type(), rules.FibDaddr.Type()).By(by), func() rules.AddrType {
			return one(d, rules.Local, rules.Unicast, rules.Broadcast, rules.Multicast)
		})
	case 1:
		return compared(d, one(d, rules.FibSaddr.OIf(), rules.FibDaddr.OIf()).By(by), func() rules.IfIndex { return rules.IfIndex(d.IntN(4)) })
	case 2:
		m := one(d, rules.FibSaddr.OIfName(), rules.FibDaddr.OIfName()).By(by).Is(one[rules.IfName](d, "lo", "eth0", "eth1", "eth*"))
		m.Negated = d.oneIn(3)
		return m
	}
	m := one(d, rules.FibSaddr.Route(), rules.FibDaddr.Route()).By(by).Is(one(d, rules.Missing, rules.Exists))
	m.Negated = d.oneIn(3)
	return m
}

// key are selectors of a set's types.
func (d dice) key(s *rules.Set) []rules.Selector {
	var key []rules.Selector
	for _, typ := range s.Key {
		switch typ {
		case rules.TCPDport.Type():
			key = append(key, rules.ThDport.Selector())
		case rules.IPDaddr.Type():
			key = append(key, one(d, rules.IPDaddr, rules.IPSaddr).Selector())
		case rules.MetaMark.Type():
			key = append(key, one(d, rules.MetaMark, rules.CTMark).Selector())
		default:
			key = append(key, rules.SkUID.Selector())
		}
	}
	return key
}

// sets are some of every shape: plain, of ranges, of several parts, of verdicts.
func (d dice) sets(t *rules.Table, chains []string) {
	rules.TCPDport.AddSet(t, "ports", rules.RangeOf(d.port()), rules.RangeBetween[rules.Port](8000, 9000))
	rules.IPDaddr.AddSet(t, "hosts", rules.RangeOf(d.v4()))
	rules.SkUID.AddSet(t, "users", rules.RangeOf(one[rules.UID](d, 0, 1000, 1337)))
	port, mark, v4 := rules.RangeOf(d.port()), rules.RangeOf(d.mark()), rules.RangeOf(d.v4())
	t.Sets = append(t.Sets,
		&rules.Set{Name: "pairs", Key: []rules.DataType{rules.TCPDport.Type(), rules.MetaMark.Type()}, Elements: []rules.Element{{Key: []rules.Range{port, mark}}}},
		&rules.Set{Name: "spans", Interval: true, Key: []rules.DataType{rules.IPDaddr.Type(), rules.TCPDport.Type()},
			Elements: []rules.Element{{Key: []rules.Range{v4, rules.RangeBetween[rules.Port](1, d.port())}}}},
		&rules.Set{Name: "verdicts", Verdicts: true, Key: []rules.DataType{rules.TCPDport.Type()},
			Elements: []rules.Element{{Key: []rules.Range{rules.RangeOf(rules.Port(80))}, Verdict: d.verdict(chains)}, {Key: []rules.Range{rules.RangeOf(rules.Port(443))}, Verdict: d.verdict(chains)}}})
}

func (d dice) verdict(chains []string) rules.Verdict {
	switch d.IntN(8) {
	case 0:
		return rules.Drop()
	case 1, 2:
		return rules.Accept()
	case 3:
		return rules.Return()
	case 4, 5, 6:
		if len(chains) > 0 && d.oneIn(3) {
			return rules.Goto(one(d, chains...))
		}
		if len(chains) > 0 {
			return rules.Jump(one(d, chains...))
		}
	}
	return rules.Verdict{Kind: rules.ContinueKind}
}

// statement is one that does something and lets the rule go on.
func (d dice) statement() rules.Node {
	switch d.IntN(7) {
	case 0:
		return rules.NoTrack{}
	case 1, 2:
		return rules.MetaMark.SetMasked(d.mark(), d.bits())
	case 3:
		return rules.CTMark.SetMasked(d.mark(), d.bits())
	case 4:
		return one(d, rules.CTZone, rules.CTOriginalZone).Set(rules.Zone(d.IntN(3)))
	case 5:
		from := one(d, rules.MetaMark, rules.CTMark, rules.SocketMark)
		return one(d, rules.MetaMark, rules.CTMark).SetFromMasked(from, d.bits())
	}
	return rules.Counter{}
}

// ending is a statement that a rule ends with.
func (d dice) ending(t *rules.Table, base *rules.Base, chains []string) rules.Node {
	switch to := d.port(); {
	case base.Type == rules.NATType && base.Hook == rules.Postrouting && d.oneIn(2):
		return rules.SNAT{To: netip.MustParseAddr(one(d, "198.18.0.2", "198.18.2.2", "2001:db8:18::2"))}
	case base.Type == rules.NATType && d.oneIn(2):
		if d.oneIn(4) {
			return rules.Redirect{}
		}
		span := rules.RangeBetween(to, to+rules.Port(d.IntN(100)))
		return rules.Redirect{Ports: &span}
	case base.Type == rules.FilterType && d.oneIn(6):
		return rules.Reject{Unreachable: d.oneIn(2)}
	case d.oneIn(4):
		return rules.VMap{Key: []rules.Selector{rules.ThDport.Selector()}, Map: "verdicts"}
	}
	return d.verdict(chains)
}

// rule is one that Check takes where it stands.
func (d dice) rule(t *rules.Table, base *rules.Base, chains []string) rules.Rule {
	for {
		var r rules.Rule
		switch d.IntN(3) {
		case 0:
			r.Nodes = append(r.Nodes, rules.L4Proto.Is(one(d, rules.TCP, rules.UDP)))
		case 1:
			r.Nodes = append(r.Nodes, rules.L4Proto.In(rules.TCP, rules.UDP))
		}
		if base.Type == rules.FilterType && base.Hook == rules.Prerouting && len(r.Nodes) > 0 && d.oneIn(3) {
			r.Nodes = append(r.Nodes, rules.TProxy{Port: one[rules.Port](d, 15006, 15001, 8080)})
		}
		for range d.IntN(3) {
			r.Nodes = append(r.Nodes, d.match(t))
		}
		if d.oneIn(6) {
			r.Nodes = append(r.Nodes, rules.VMap{Key: []rules.Selector{rules.ThDport.Selector()}, Map: "verdicts"})
		}
		for range d.IntN(3) {
			r.Nodes = append(r.Nodes, d.statement())
		}
		if d.oneIn(2) {
			r.Nodes = append(r.Nodes, d.ending(t, base, chains))
		}
		probe := &rules.Table{Name: t.Name, Sets: t.Sets, Chains: []*rules.Chain{{Name: "probe", Base: base, Rules: []rules.Rule{r}}}}
		for _, name := range []string{"first", "second"} {
			probe.Chains = append(probe.Chains, &rules.Chain{Name: name})
		}
		if (rules.State{Table: probe}).Check() == nil {
			return r
		}
	}
}

// base is a place for a chain. Conntrack's own priority is left out: whether a
// chain there comes before it depends on what was loaded before.
func (d dice) base() *rules.Base {
	b := &rules.Base{Type: rules.FilterType, Drop: d.oneIn(8)}
	b.Hook = one(d, rules.Prerouting, rules.Prerouting, rules.Input, rules.Forward, rules.Output, rules.Output, rules.Postrouting)
	b.Priority = one[int32](d, -300, -250, -150, -150, -100, -50, 0, 0, 50, 100, 150)
	switch d.IntN(5) {
	case 0, 1:
		b.Type, b.Drop = rules.NATType, false
		b.Hook = one(d, rules.Prerouting, rules.Output, rules.Output, rules.Postrouting, rules.Input)
		b.Priority = one[int32](d, -150, -100, -100, 0, 100)
	case 2:
		b.Type, b.Hook = rules.RouteType, rules.Output
	case 3:
		if d.oneIn(3) {
			b.Hook, b.Devices = rules.Ingress, []string{one(d, "lo", "eth0")}
		}
	}
	return b
}

// state is one that Check takes.
func (d dice) state() rules.State {
	for {
		t := &rules.Table{Name: tableName}
		later := []string{"first", "second"}
		d.sets(t, later)
		for i := range 1 + d.IntN(4) {
			c := &rules.Chain{Name: fmt.Sprintf("base%d", i), Base: d.base()}
			for range 1 + d.IntN(5) {
				c.Rules = append(c.Rules, d.rule(t, c.Base, later))
			}
			t.Chains = append(t.Chains, c)
		}
		for i, name := range later {
			c := &rules.Chain{Name: name}
			for range 1 + d.IntN(3) {
				c.Rules = append(c.Rules, d.rule(t, &rules.Base{Type: rules.FilterType, Hook: rules.Input}, later[i+1:]))
			}
			t.Chains = append(t.Chains, c)
		}
		s := rules.State{Table: t}
		if d.oneIn(2) {
			everywhere := map[rules.Family]string{rules.IPv4: "0.0.0.0/0", rules.IPv6: "::/0"}
			for _, f := range bothFamilies {
				s.PolicyRules = append(s.PolicyRules, rules.PolicyRule{Family: f, Priority: 100, Mark: 1, Mask: 1, Table: divertTable, In: one(d, "", "lo")})
				if d.oneIn(3) {
					s.PolicyRules = append(s.PolicyRules, rules.PolicyRule{Family: f, Priority: 50, Mark: 3, Mask: 3, In: one(d, "", "lo"), Goto: 32766})
				}
				s.Routes = append(s.Routes, rules.Route{Family: f, Table: divertTable, Dst: netip.MustParsePrefix(everywhere[f])})
			}
		}
		if s.Check() == nil {
			return s
		}
	}
}

// packet is sent here, or comes from the peer of package lab's pod.
func (d dice) packet(sport uint16) sim.Packet {
	p := sim.Packet{Proto: one(d, rules.TCP, rules.UDP)}
	v4 := one(d, true, true, false)
	to := func(v4s, v6s []string) netip.Addr {
		if v4 {
			return netip.MustParseAddr(one(d, v4s...))
		}
		return netip.MustParseAddr(one(d, v6s...))
	}
	if d.oneIn(3) {
		p.In = "eth0"
		p.Src = netip.AddrPortFrom(to([]string{"198.18.0.1"}, []string{"2001:db8:18::1"}), sport)
		p.Dst = netip.AddrPortFrom(to([]string{"198.18.0.2", "198.18.0.2", "198.18.1.2", "10.4.5.6"}, []string{"2001:db8:18::2", "2001:db8:18::2", "2001:db8:99::9"}), uint16(d.port()))
		if !netip.MustParsePrefix("198.18.0.0/24").Contains(p.Dst.Addr()) && !netip.MustParsePrefix("2001:db8:18::/64").Contains(p.Dst.Addr()) {
			p.In = "eth1" // by which the peer reaches it
		}
		return p
	}
	p.Mark = d.mark()
	p.Socket = &sim.Socket{Proto: p.Proto, UID: one[rules.UID](d, 0, 1000, 1337), GID: one[rules.GID](d, 0, 1000, 1337), Mark: p.Mark}
	p.Dst = netip.AddrPortFrom(to([]string{"127.0.0.1", "198.18.0.2", "198.18.0.1", "198.18.1.1", "203.0.113.7"}, []string{"::1", "2001:db8:18::2", "2001:db8:18::1", "2001:db8:99::9"}), uint16(d.port()))
	p.Src = netip.AddrPortFrom(netip.Addr{}, sport)
	if d.oneIn(4) {
		p.Src = netip.AddrPortFrom(to([]string{"198.18.1.2", "198.18.0.2"}, []string{"2001:db8:19::2"}), sport)
	}
	return p
}
