// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// randomState has rules over every property that makes classes.
func randomState(r *rand.Rand) rules.State {
	port := func() rules.Port { return rules.Port(1 + r.IntN(20)) }
	prefix := func() netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(4)), 0}), 12+r.IntN(12)).Masked()
	}
	matches := []func() rules.Match{
		func() rules.Match { return rules.SkUID.In(rules.UID(r.IntN(4)), rules.UID(r.IntN(4))) },
		func() rules.Match { return rules.SkGID.Not(rules.GID(r.IntN(4))) },
		func() rules.Match { return rules.MetaMark.Masked(rules.Mark(r.IntN(2)), 1) },
		func() rules.Match { return rules.MetaMark.Is(rules.Mark(r.IntN(4))) },
		func() rules.Match {
			p := port()
			return rules.TCPDport.Within(rules.RangeBetween(p, p+rules.Port(r.IntN(5))))
		},
		func() rules.Match { return rules.UDPDport.NotIn(port(), port()) },
		func() rules.Match { return rules.TCPSport.Is(port()) },
		func() rules.Match { return rules.IPDaddr.Is(prefix()) },
		func() rules.Match { return rules.IPDaddr.Not(prefix()) },
		func() rules.Match { return rules.OIfName.Is("eth1") },
		func() rules.Match { return rules.IIfName.Not("eth1") },
		func() rules.Match { return rules.L4Proto.Is(rules.TCP) },
	}
	t := &rules.Table{Name: "weir"}
	for _, c := range []*rules.Chain{
		{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}},
		{Name: "prerouting", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: rules.PriorityMangle}},
	} {
		for i := range 1 + r.IntN(4) {
			var nodes []rules.Node
			for range 1 + r.IntN(3) {
				nodes = append(nodes, matches[r.IntN(len(matches))]())
			}
			nodes = append(nodes, []rules.Node{rules.Return(), rules.Drop(), rules.Accept()}[r.IntN(3)])
			probe := &rules.Chain{Name: c.Name, Base: c.Base, Rules: []rules.Rule{{Nodes: nodes}}}
			if (rules.State{Table: &rules.Table{Name: "weir", Chains: []*rules.Chain{probe}}}).Check() == nil {
				c.Add(fmt.Sprintf("%s %d", c.Name, i), nodes...)
			}
		}
		t.Chains = append(t.Chains, c)
	}
	return rules.State{Table: t}
}

// membership is which tests a packet's properties are in: classes are told apart by
// nothing else.
func membership(s *Space, all map[rules.Selector][]test, p sim.Packet) string {
	var b strings.Builder
	in := func(t []test, v rules.Bits) {
		for _, x := range t {
			fmt.Fprint(&b, x.holds(v), " ")
		}
	}
	fmt.Fprint(&b, p.Proto, p.In, p.Dst.Addr().Is4(), " ")
	if p.Socket != nil {
		in(all[rules.SkUID.Selector()], span(p.Socket.UID))
		in(all[rules.SkGID.Selector()], span(p.Socket.GID))
		in(all[rules.MetaMark.Selector()], span(p.Mark))
	}
	for _, k := range []rules.Key[rules.Port]{rules.TCPDport, rules.UDPDport} {
		in(all[k.Selector()], span(rules.Port(p.Dst.Port())))
	}
	in(all[rules.TCPSport.Selector()], span(rules.Port(p.Src.Port())))
	in(all[rules.IPDaddr.Selector()], rules.Bits(p.Dst.Addr().AsSlice()))
	for _, l := range s.Host.Links {
		for _, a := range l.Addresses {
			fmt.Fprint(&b, a.Contains(p.Dst.Addr()), a.Addr() == p.Dst.Addr(), " ")
		}
	}
	return b.String()
}

// TestClassesAreTreatedAlike: of any packet becomes what becomes of the one that
// stands for its class.
func TestClassesAreTreatedAlike(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 0))
		state := randomState(r)
		s, err := New(podHost(), state)
		if err != nil {
			t.Fatal(err)
		}
		e, all := sim.EvaluatorOf(state, s.Host), tests([]*rules.Table{state.Table})
		fate := func(p sim.Packet) string {
			j := e.Evaluate(p, nil)
			return fmt.Sprint(j.Fate.Kind, j.Fate.Out, j.Decision().Reason)
		}
		classes := map[string]sim.Packet{}
		for i := range s.cells {
			if p, ok := s.packet(s.cell(i)); ok {
				classes[membership(s, all, p)] = p
			}
		}
		for range 300 {
			p := sim.Packet{Proto: []rules.Proto{rules.TCP, rules.UDP}[r.IntN(2)], Mark: rules.Mark(r.IntN(4)),
				Src: netip.AddrPortFrom(netip.Addr{}, uint16(1+r.IntN(20))),
				Dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(5)), byte(r.IntN(5)), byte(r.IntN(4))}), uint16(1+r.IntN(25)))}
			p.Socket = &sim.Socket{UID: rules.UID(r.IntN(5)), GID: rules.GID(r.IntN(5)), Mark: p.Mark}
			like, ok := classes[membership(s, all, p)]
			if !ok {
				t.Fatalf("seed %d: %+v %+v is of no class\n%s", seed, p, p.Socket, state)
			}
			if got, want := fate(p), fate(like); got != want {
				t.Fatalf("seed %d: of %+v %+v becomes %q, of its class %q\n%s", seed, p, p.Socket, got, want, state)
			}
		}
	}
}
