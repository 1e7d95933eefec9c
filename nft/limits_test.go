// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// TestKernelTakesWhatCheckTakes asks a kernel and nft for everything at the edge
// of what Check takes: each kind of node in each kind of base chain, each set of
// flags, and every limit.
func TestKernelTakesWhatCheckTakes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	hold := func(why string, table *rules.Table) {
		state := rules.State{Table: table}
		if err := state.Check(); err != nil {
			t.Errorf("%s: %v", why, err)
			return
		}
		want := state.Normal()
		replaceKernelTable(t, c, want.Table)
		for _, d := range want.Compare(kernelState(t, c)) {
			t.Errorf("%s: %v", why, d)
		}
		if err := nftLoad(want.String()); err != nil {
			t.Errorf("%s: nft does not load it: %v", why, err)
		}
	}
	for bases := range slices.Chunk(everyBase(), 5) { // as many as nft can send without privileges
		hold("each kind of node in each kind of base chain", everyNode(t, bases))
	}
	hold("each set of flags", everyFlag())
	hold("every limit", limits())
}

// everyBase are base chains of every type at every hook, where there are such.
func everyBase() []*rules.Base {
	var bases []*rules.Base
	for _, priority := range []int32{rules.PriorityRaw, rules.PriorityMangle} {
		for h := rules.Prerouting; h <= rules.Postrouting; h++ {
			for _, typ := range []rules.ChainType{rules.FilterType, rules.NATType, rules.RouteType} {
				b := &rules.Base{Type: typ, Hook: h, Priority: priority}
				if (row{base: b, nodes: nodes(rules.Counter{})}).state().Check() == nil {
					bases = append(bases, b)
				}
			}
		}
	}
	return append(bases, &rules.Base{Type: rules.FilterType, Hook: rules.Ingress, Devices: []string{"lo"}})
}

// everyNode holds, in each of the base chains, a rule for each kind of node and
// selector that Check takes there.
func everyNode(t *testing.T, bases []*rules.Base) *rules.Table {
	kinds := map[string]row{}
	for _, r := range allRows(t) {
		if len(r.sets) == 0 && r.loads == "" {
			kind := ""
			for _, n := range r.nodes {
				word, _, _ := strings.Cut(rules.Rule{Nodes: nodes(n)}.String(), " ")
				kind += fmt.Sprintf("%T %s ", n, word)
				if m, ok := n.(rules.Match); ok {
					kind += m.Key[0].String()
				}
			}
			kinds[kind] = r
		}
	}
	table := &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: "there"}}}
	for i, base := range bases {
		chain := &rules.Chain{Name: chainOf(i), Base: base}
		for _, r := range kinds {
			if alone := (row{base: base, nodes: r.nodes}); alone.state().Check() == nil {
				chain.Add(r.why, r.nodes...)
			}
		}
		table.Chains = append(table.Chains, chain)
	}
	return table
}

// everyFlag holds a set for each combination of flags that Check takes.
func everyFlag() *rules.Table {
	table := &rules.Table{Name: "weir"}
	for bits := range 1 << 9 {
		on := func(bit int) bool { return bits>>bit&1 == 1 }
		s := &rules.Set{Name: fmt.Sprintf("s%d", bits), Key: []rules.DataType{rules.MetaMark.Type()}}
		s.Interval, s.Dynamic, s.Counters, s.Expires, s.Verdicts, s.Live = on(0), on(1), on(2), on(3), on(4), on(5)
		if on(6) {
			s.Timeout = time.Second
		}
		if on(7) {
			s.Size = 10
		}
		if on(8) {
			s.Key = append(s.Key, rules.TCPDport.Type())
		}
		if (rules.State{Table: &rules.Table{Name: "weir", Sets: []*rules.Set{s}}}).Check() == nil {
			table.Sets = append(table.Sets, s)
		}
	}
	return table
}

func limits() *rules.Table {
	long := strings.Repeat("n", 255)
	t := &rules.Table{Name: "weir", Sets: []*rules.Set{
		{Name: long, Key: []rules.DataType{rules.MetaMark.Type()}},
		{Name: "parts", Key: []rules.DataType{rules.MetaMark.Type(), rules.SkUID.Type(), rules.SkGID.Type(), rules.TCPDport.Type(), rules.L4Proto.Type()}},
		{Name: "widest", Interval: true, Key: []rules.DataType{rules.IP6Daddr.Type(), rules.IP6Daddr.Type(), rules.IP6Daddr.Type(), rules.IP6Daddr.Type()}},
		{Name: "full", Size: 2, Key: []rules.DataType{rules.SkUID.Type()}, Elements: elementsOf(spans[rules.UID](1, 2))},
		{Name: "oldest", Live: true, Expires: true, Timeout: 365 * 24 * time.Hour, Key: []rules.DataType{rules.SkUID.Type()}},
	}}
	t.Chains = append(t.Chains, &rules.Chain{Name: long, Base: &rules.Base{Type: rules.FilterType, Hook: rules.Output}, Rules: []rules.Rule{{Reason: longestReason, Nodes: nodes(rules.Jump("c1"))}}})
	const deepest = 16 // chains on the way, the base among them
	for i := 1; i < deepest; i++ {
		c := &rules.Chain{Name: fmt.Sprintf("c%d", i)}
		if i < deepest-1 {
			c.Add("deeper", rules.Jump(fmt.Sprintf("c%d", i+1)))
		}
		t.Chains = append(t.Chains, c)
	}
	// As many nodes as Check takes, of those that cost most.
	for _, m := range []rules.Match{
		rules.MetaMark.NotWithin(rules.RangeBetween(rules.Mark(1), rules.Mark(3))),
		rules.MetaMark.Within(rules.RangeBetween(rules.Mark(1), rules.Mark(3))),
		rules.IP6Daddr.NotWithin(rules.RangeBetween(prefix("::3/128"), prefix("::9/128"))),
		rules.IP6Daddr.Masked(prefix("::1/128"), prefix("ffff::1/128")),
		rules.Match{Set: "widest", Key: []rules.Selector{rules.IP6Saddr.Selector(), rules.IP6Daddr.Selector(), rules.IP6Saddr.Selector(), rules.IP6Daddr.Selector()}},
		rules.Match{Set: "parts", Key: []rules.Selector{rules.MetaMark.Selector(), rules.SkUID.Selector(), rules.SkGID.Selector(), rules.TCPDport.Selector(), rules.L4Proto.Selector()}},
	} {
		r := rules.Rule{}
		for {
			more := rules.Rule{Nodes: append(nodes(r.Nodes...), m)}
			alone := rules.State{Table: &rules.Table{Name: "weir", Sets: t.Sets, Chains: []*rules.Chain{{Name: "alone", Rules: []rules.Rule{more}}}}}
			if alone.Check() != nil {
				break
			}
			r = more
		}
		t.Chains[0].Rules = append(t.Chains[0].Rules, r)
	}
	return t
}

// TestKernelRefusesWhatCheckRefuses holds Check to the reasons it gives: what it
// refuses on a kernel's behalf, a kernel refuses.
func TestKernelRefusesWhatCheckRefuses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	chain := func(base *rules.Base, list ...rules.Node) *rules.Table {
		out := &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: "there"}, {Name: "c", Base: base}}}
		if list != nil {
			out.Chains[1].Add("", list...)
		}
		return out
	}
	set := func(s rules.Set) *rules.Table {
		s.Name = "s"
		return &rules.Table{Name: "weir", Sets: []*rules.Set{&s}, Chains: []*rules.Chain{{Name: "there"}}}
	}
	filter := func(h rules.Hook) *rules.Base { return &rules.Base{Type: rules.FilterType, Hook: h} }
	circle := chain(filter(rules.Output), rules.Jump("there"))
	circle.Chains[0].Add("", rules.Jump("there"))
	deep := limits()
	deep.Chains[15].Add("", rules.Jump("too_deep"))
	deep.Chains = append(deep.Chains, &rules.Chain{Name: "too_deep"})
	var many []rules.Node
	for range 45 {
		many = append(many, rules.MetaMark.NotWithin(rules.RangeBetween(rules.Mark(1), rules.Mark(3))))
	}
	port := []rules.DataType{rules.TCPDport.Type()}
	for _, f := range []struct {
		why   string
		table *rules.Table
	}{
		{"no nat chain is in forward", chain(&rules.Base{Type: rules.NATType, Hook: rules.Forward})},
		{"no nat chain comes before conntrack", chain(&rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: -200})},
		{"a route chain is in output", chain(&rules.Base{Type: rules.RouteType, Hook: rules.Input})},
		{"redirect is for nat chains", chain(filter(rules.Output), tcp, rules.RedirectTo(15001))},
		{"tproxy is for prerouting", chain(filter(rules.Output), tcp, rules.TProxy{Port: 15006})},
		{"a socket is looked up before postrouting", chain(filter(rules.Postrouting), rules.SocketTransparent.Is(true))},
		{"a cgroup is looked up before forwarding", chain(filter(rules.Forward), rules.SocketCgroup(1).Is(1))},
		{"there is no route at ingress", chain(&rules.Base{Type: rules.FilterType, Hook: rules.Ingress, Devices: []string{"lo"}}, rules.FibDaddr.Type().Is(rules.Local))},
		{"chains jump in a circle", circle},
		{"chains jump too deep", deep},
		{"no rule jumps to nowhere", chain(nil, rules.Jump("nowhere"))},
		{"no rule jumps to a base chain", chain(filter(rules.Output), rules.Jump("c"))},
		{"a rule has too many expressions", chain(nil, many...)},
		{"names are too long", &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: strings.Repeat("n", 256)}}}},
		{"a lookup without a set", chain(nil, rules.MetaMark.InSet(rules.SetOf[rules.Mark]{Name: "nowhere"}))},
		{"a key is too wide", set(rules.Set{Key: []rules.DataType{rules.IP6Daddr.Type(), rules.IP6Daddr.Type(), rules.IP6Daddr.Type(), rules.IP6Daddr.Type(), rules.IP6Daddr.Type()}})},
		{"a set has no key", set(rules.Set{})},
		{"a timeout wants its flag", set(rules.Set{Key: port, Live: true, Timeout: time.Hour})},
		{"an element's timeout wants the flag", set(rules.Set{Key: port, Live: true, Elements: []rules.Element{{Key: spans[rules.Port](1), Timeout: time.Hour}}})},
		{"more elements than there is room for", set(rules.Set{Key: port, Size: 1, Elements: elementsOf(spans[rules.Port](1, 2))})},
		{"two verdicts for one port", set(rules.Set{Key: port, Verdicts: true, Elements: []rules.Element{
			{Key: spans[rules.Port](1), Verdict: rules.Accept()}, {Key: spans[rules.Port](1), Verdict: rules.Drop()}}})},
		{"two verdicts for some ports", set(rules.Set{Key: port, Verdicts: true, Interval: true, Elements: []rules.Element{
			{Key: between[rules.Port](1, 10), Verdict: rules.Accept()}, {Key: between[rules.Port](5, 15), Verdict: rules.Drop()}}})},
		{"two ranges of a concatenation overlap", set(rules.Set{Key: []rules.DataType{rules.TCPDport.Type(), rules.MetaMark.Type()}, Interval: true, Elements: []rules.Element{
			{Key: []rules.Range{*ports(1, 10), rules.RangeOf(rules.Mark(1))}}, {Key: []rules.Range{*ports(5, 15), rules.RangeOf(rules.Mark(1))}}}})},
		{"a map's chain is missing", set(rules.Set{Key: port, Verdicts: true, Elements: []rules.Element{{Key: spans[rules.Port](1), Verdict: rules.Jump("nowhere")}}})},
		{"a map's element has no verdict", set(rules.Set{Key: port, Verdicts: true, Elements: elementsOf(spans[rules.Port](1))})},
	} {
		if (rules.State{Table: f.table}).Check() == nil {
			t.Errorf("%s: Check takes it", f.why)
		}
		g, err := c.generation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := &batch{}
		l := lower(b, f.table)
		l.addTable()
		l.addAll(f.table, nil)
		if err := c.commit(t.Context(), b, g); err == nil {
			t.Errorf("%s: the kernel takes it", f.why)
			replaceKernelTable(t, c, &rules.Table{Name: "weir"})
		}
	}
}
