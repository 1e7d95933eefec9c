// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"cmp"
	"errors"
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// capturing is a state whose classes differ in every dimension.
func capturing(excluded int) rules.State {
	t := &rules.Table{Name: "weir"}
	ports := rules.TCPDport.AddSet(t, "ports", rules.RangeBetween[rules.Port](8000, 8100))
	var list []rules.Range
	for i := range excluded {
		list = append(list, rules.RangeOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 7), byte(i << 1), 0}), 24)))
	}
	prefixes := rules.IPDaddr.AddSet(t, "prefixes", list...)
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	out.Add("the proxy", rules.SkUID.Is(1337), rules.Return())
	out.Add("marked", rules.MetaMark.Masked(0x10, 0xf0), rules.Return())
	out.Add("ports", rules.TCPDport.InSet(ports), rules.Return())
	out.Add("prefixes", rules.IPDaddr.InSet(prefixes), rules.Return())
	out.Add("a network card", rules.OIfName.Is("nic9"), rules.Return())
	out.Add("all", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	t.Chains = []*rules.Chain{out}
	return rules.State{Table: t}
}

func podHost() sim.Host {
	h := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.5/24"), netip.MustParsePrefix("2001:db8:244::5/64")}})
	for _, everywhere := range []string{"0.0.0.0/0", "::/0"} {
		h.Routes = append(h.Routes, sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix(everywhere), Type: rules.Unicast, Out: "eth0"})
	}
	h.Assumes = true
	return h
}

func TestClassesAreOfMembership(t *testing.T) {
	few, err := New(podHost(), capturing(3))
	if err != nil {
		t.Fatal(err)
	}
	many, err := New(podHost(), capturing(10000))
	if err != nil {
		t.Fatal(err)
	}
	if few.cells != many.cells {
		t.Errorf("%d cells with 3 prefixes, %d with 10,000: they are of one set", few.cells, many.cells)
	}
}

func TestTooManyClassesAreRefused(t *testing.T) {
	table := &rules.Table{Name: "weir"}
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Output}}
	for i := range 200 {
		out.Add("", rules.TCPDport.Is(rules.Port(2*i+1)), rules.Accept())
		out.Add("", rules.SkUID.Is(rules.UID(2*i)), rules.Accept())
	}
	table.Chains = []*rules.Chain{out}
	if _, err := New(podHost(), rules.State{Table: table}); !errors.Is(err, ErrTooMany) {
		t.Errorf("200 ports of 200 users: %v", err)
	}
}

// TestRowsCover: every class is in a row of its outcome, and no row holds a class
// of another.
func TestRowsCover(t *testing.T) {
	state := capturing(100)
	s, err := New(podHost(), state)
	if err != nil {
		t.Fatal(err)
	}
	e := sim.EvaluatorOf(state, s.Host)
	c := newCover(s, func(p sim.Packet) (string, bool) {
		j := e.Evaluate(p, nil)
		return j.Decision().Reason, j.Fate.Kind != sim.LostInRouting
	})
	covered := make([]bool, s.cells)
	boxes := 0
	for o := range c.known {
		var cells []int
		for i := range c.outcomes {
			if c.outcomes[i] == o {
				cells = append(cells, i)
			}
		}
		for _, b := range c.needed(c.blocks(cells)) {
			boxes++
			c.visit(b.box, func(i int) bool {
				covered[i] = true
				if c.outcomes[i] >= 0 && c.outcomes[i] != o {
					t.Fatalf("a row of %q holds a packet of %q", c.known[o], c.known[c.outcomes[i]])
				}
				return true
			})
		}
	}
	for i, o := range c.outcomes {
		if o >= 0 && !covered[i] {
			t.Fatalf("no row holds a packet of %q", c.known[o])
		}
	}
	if len(c.known) != 7 {
		t.Errorf("the outcomes are %q, want one for each rule and one for none", c.known)
	}
	t.Logf("%d cells, %d outcomes, %d rows", s.cells, len(c.known), boxes)
}

func TestRowsNameNothingElse(t *testing.T) {
	state := capturing(3)
	s, err := New(podHost(), state)
	if err != nil {
		t.Fatal(err)
	}
	e := sim.EvaluatorOf(state, s.Host)
	rows := Rows(s, func(p sim.Packet) (string, bool) { return e.Evaluate(p, nil).Decision().Reason, true }, cmp.Compare[string],
		func(reason string) bool { return reason == "a network card" })
	for _, r := range rows {
		if r.Outcome != "a network card" || !netip.MustParsePrefix("100.64.0.0/24").Contains(r.Example.Dst.Addr()) {
			t.Errorf("%+v", r)
		}
	}
	if len(rows) == 0 {
		t.Error("no row says what leaves by the interface that a rule names")
	}
}
