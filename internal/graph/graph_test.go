// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// example has jumps, a map, sets, what is unknown, words that pages must escape, and
// a chain that no rule leads to.
func example() Graph {
	t := &rules.Table{Name: "t"}
	ports := rules.TCPDport.AddSet(t, "ports", rules.RangeBetween(rules.Port(1), rules.Port(9)), rules.RangeOf(rules.Port(80)))
	t.Sets = append(t.Sets, &rules.Set{Name: "ways", Key: []rules.DataType{rules.TCPDport.Type()}, Verdicts: true, Elements: []rules.Element{
		{Key: []rules.Range{rules.RangeOf(rules.Port(80))}, Verdict: rules.Jump("deliver")}}})
	output := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: -100, Drop: true}}
	output.Add("a <b> & \"c\" #1", rules.TCPDport.InSet(ports), rules.Counter{Packets: 9}, rules.Jump("deliver"))
	output.Add("", rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Map: "ways"})
	output.Add("what is not known", rules.Opaque{Name: "numgen"}, rules.Counter{})
	deliver := &rules.Chain{Name: "deliver"}
	deliver.Add("all goes to the listener", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	t.Chains = []*rules.Chain{{Name: "lost"}, output, deliver}
	return Graph{
		Title: "table inet t", Tables: []Table{{Title: "inet t", Table: sim.Table{Table: t}}}, Counted: true, Routing: []string{"ip rule <x>"},
		Beside: []Chain{{Title: "ip other c", Base: rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: 5}, Note: "another's",
			Table: sim.Table{Table: &rules.Table{Name: "other"}, Family: rules.IPv4}}},
		Journey: &sim.Journey{Steps: []sim.Step{{Table: "t", Chain: "output", Rule: 1},
			{Table: "other", Family: rules.IPv4, Chain: "c", Hook: rules.Prerouting, Priority: 5, Rule: 2, Reason: "a <b>", Does: "accept"}, {Hook: rules.Output, Does: "routed again"},
			{Table: "t", Chain: "deliver", Rule: 1}}},
		Fate: "captured",
	}
}

func written(t *testing.T, write func(*strings.Builder) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPageStandsAlone: the page asks for nothing, and holds every chain and rule.
func TestPageStandsAlone(t *testing.T) {
	text := written(t, func(b *strings.Builder) error { return example().HTML(b) })
	for _, pattern := range []string{`(?i)<script`, `(?i)https?:`, `(?i)\ssrc=`, `(?i)\son[a-z]+=`, `@import`, `url\(`} {
		if m := regexp.MustCompile(pattern).FindString(text); m != "" {
			t.Errorf("the page has %q", m)
		}
	}
	for _, want := range []string{
		"default-src 'none'", "prefers-color-scheme: dark", "@media print", `name="viewport"`,
		"a &lt;b&gt; &amp; &#34;c&#34; #1", "policy drop", "&lt;unknown: numgen&gt;", `class="unknown"`,
		"→ deliver</a>", "no known rule leads here", "<aside><b>ports</b>", "1-9, 80", "ip rule &lt;x&gt;", "9 packets",
		`<span class="step" id="step1">1</span>`, `<span class="step" id="step4">4</span>`,
		`<p class="path"><span class="step" id="step2">2</span> c rule 2 &#34;a &lt;b&gt;&#34;: accept</p>`, `<p class="fate"><a href="#step4">captured</a></p>`, `<li><a href="#step1"><span class="step">1</span> output rule 1</a></li>`, `<li><span class="step" id="step3">3</span> output: routed again</li>`, `<p class="legend">`, "ip other c", "--heat:1.00",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if ids[m[1]] {
			t.Errorf("two places are called %s", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if !ids[m[1]] {
			t.Errorf("a link leads to %s, which is nowhere", m[1])
		}
	}
	for _, tag := range []string{"li", "ol", "section", "article", "div", "span", "a", "aside", "code"} {
		opened, closed := len(regexp.MustCompile("<"+tag+"[ >]").FindAllString(text, -1)), strings.Count(text, "</"+tag+">")
		if opened != closed {
			t.Errorf("%d <%s> are opened and %d closed", opened, tag, closed)
		}
	}
}

func TestMermaid(t *testing.T) {
	got := written(t, func(b *strings.Builder) error { return example().Mermaid(b) })
	const want = `flowchart TB
%% table inet t
subgraph hook_prerouting["prerouting"]
direction TB
c3["<b>ip other c</b> <i>filter 5</i> <i>another's</i><br/><b>c rule 2 #quot;a #lt;b#gt;#quot;: accept</b>"]
end
subgraph hook_output["output"]
direction TB
c0["<b>output</b> <i>nat -100, policy drop</i><br/><b>1. a #lt;b#gt; #amp; #quot;c#quot; #35;1 <i>jump deliver</i> (9 packets)</b><br/>2. tcp dport vmap @ways<br/>3. what is not known <i>unknown</i> (0 packets)"]
c0s0[/"<b>ports</b><br/>1-9, 80"/]
c0s0 -.- c0
c0s1[/"<b>ways</b><br/>80 : jump deliver"/]
c0s1 -.- c0
c1["<b>deliver</b><br/><b>1. all goes to the listener <i>redirect to :15001</i></b>"]
c0 -->|"1"| c1
c0 -->|"2"| c1
end
c2["<b>lost</b>"]
classDef path stroke:#c2410c,stroke-width:3px
class c3,c0,c1 path
linkStyle 2 stroke:#c2410c,stroke-width:3px
`
	if got != want {
		t.Errorf("drew\n%s\nwant\n%s", got, want)
	}
}

// TestCaptureIsWhatARuleDoes: a mark and a verdict that follow belong to it.
func TestCaptureIsWhatARuleDoes(t *testing.T) {
	for _, tt := range []struct {
		nodes      []rules.Node
		does, kind string
	}{
		{[]rules.Node{rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: 15006}, rules.MetaMark.SetMasked(1, 1), rules.Accept()}, "tproxy to :15006 accept", "capture"},
		{[]rules.Node{rules.L4Proto.Is(rules.TCP), rules.Reject{}}, "reject with tcp reset", "drop"},
		{[]rules.Node{rules.MetaMark.Set(1), rules.Accept()}, "accept", "pass"},
		{[]rules.Node{rules.L4Proto.Is(rules.TCP)}, "", "pass"},
		{nil, "", ""},
	} {
		if d, k, _ := does(tt.nodes); d != tt.does || k != tt.kind {
			t.Errorf("%v does %q (%s), want %q (%s)", tt.nodes, d, k, tt.does, tt.kind)
		}
	}
}

// TestMermaidReadsNoText: nothing that a rule of another's says, or what is told of
// it, is a directive or an entity.
func TestMermaidReadsNoText(t *testing.T) {
	const said, drawn = `%%{init: {'theme':'dark'}}%% #35; "a" $$x$$ <b>`, `#37;#37;{init: {'theme':'dark'}}#37;#37; #35;35; #quot;a#quot; #36;#36;x#36;#36; #lt;b#gt;`
	c := &rules.Chain{Name: "c"}
	c.Add(said+"\r\nend", rules.Accept())
	g := Graph{Title: "t", Notes: []string{said + "\r\nend"}, Tables: []Table{{Title: "inet t", Table: sim.Table{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{c}}}}}}
	got := written(t, func(b *strings.Builder) error { return g.Mermaid(b) })
	if !strings.Contains(got, "<br/>1. "+drawn+`\r\nend <i>accept</i>"]`+"\n") {
		t.Errorf("the label is not %q:\n%s", drawn, got)
	}
	if strings.Count(got, "%%") != 2 || strings.Contains(got, "\r") {
		t.Errorf("a note or a rule is more than a text:\n%s", got)
	}
}

// TestWays: arrows lead from hook to hook along packets' ways, over those that no
// chain is on.
func TestWays(t *testing.T) {
	for _, tt := range []struct {
		why   string
		hooks []rules.Hook
		want  []string
	}{
		{"what comes in by a device goes on to prerouting", []rules.Hook{rules.Prerouting, rules.Ingress}, []string{"hook_ingress ==> hook_prerouting"}},
		{"or past it", []rules.Hook{rules.Ingress, rules.Input, rules.Forward}, []string{"hook_ingress ==> hook_input", "hook_ingress ==> hook_forward"}},
		{"every hook", []rules.Hook{rules.Ingress, rules.Prerouting, rules.Input, rules.Forward, rules.Output, rules.Postrouting},
			[]string{"hook_ingress ==> hook_prerouting", "hook_prerouting ==> hook_input", "hook_prerouting ==> hook_forward", "hook_forward ==> hook_postrouting", "hook_output ==> hook_postrouting"}},
	} {
		var g Graph
		for _, h := range tt.hooks {
			g.Beside = append(g.Beside, Chain{Title: h.String(), Base: rules.Base{Type: rules.FilterType, Hook: h}})
		}
		var got []string
		for _, line := range strings.Split(written(t, func(b *strings.Builder) error { return g.Mermaid(b) }), "\n") {
			if strings.HasPrefix(line, "hook_") {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}

// TestPathOfOneFamily: a packet of IPv4 leaves no path in a table for IPv6, whatever
// its name.
func TestPathOfOneFamily(t *testing.T) {
	c := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: -100}}
	c.Add("", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	nat := func(f rules.Family) sim.Table {
		return sim.Table{Table: &rules.Table{Name: "nat", Chains: []*rules.Chain{c}}, Family: f}
	}
	journey := sim.NewEvaluator(sim.NewHost(), nat(rules.IPv6), nat(rules.IPv4)).
		Evaluate(sim.Packet{Proto: rules.TCP, Dst: netip.MustParseAddrPort("127.0.0.1:80")}, nil)
	for family, want := range map[rules.Family]bool{rules.IPv4: true, rules.IPv6: false, 0: false} {
		g := Graph{Tables: []Table{{Title: "nat", Table: nat(family)}}, Journey: &journey}
		page := written(t, func(b *strings.Builder) error { return g.HTML(b) })
		if strings.Contains(page, `class="path"`) != want {
			t.Errorf("of family %d a path is drawn: %v", family, !want)
		}
	}
}

// TestChainsInPacketOrder: nat works at its hook's own priority, and of equals the
// chain that was declared last comes first.
func TestChainsInPacketOrder(t *testing.T) {
	chain := func(name string, typ rules.ChainType, priority int32) *rules.Chain {
		return &rules.Chain{Name: name, Base: &rules.Base{Type: typ, Hook: rules.Output, Priority: priority}}
	}
	table := &rules.Table{Name: "t", Chains: []*rules.Chain{
		chain("third", rules.FilterType, -50), chain("second", rules.NATType, 7), chain("first", rules.FilterType, -100), chain("last", rules.FilterType, 0)}}
	g := Graph{Tables: []Table{{Title: "inet t", Table: sim.Table{Table: table}}}, Beside: []Chain{{Title: "fourth", Base: rules.Base{Type: rules.FilterType, Hook: rules.Output, Priority: -50}}}}
	for format, write := range map[string]func(*strings.Builder) error{
		"html": func(b *strings.Builder) error { return g.HTML(b) }, "mermaid": func(b *strings.Builder) error { return g.Mermaid(b) }} {
		text, at := written(t, write), 0
		for _, name := range []string{"first", "second", "third", "fourth", "last"} {
			i := strings.Index(text[at:], ">"+name)
			if i < 0 {
				t.Fatalf("%s: chain %s does not come where packets meet it:\n%s", format, name, text)
			}
			at += i
		}
	}
}

// TestGraphOfManyChains: a table as large as a cluster's is drawn whole.
func TestGraphOfManyChains(t *testing.T) {
	table := &rules.Table{Name: "many"}
	base := &rules.Chain{Name: "base", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Input}}
	table.Chains = append(table.Chains, base)
	const chains = 2000
	for i := range chains {
		c := &rules.Chain{Name: fmt.Sprintf("chain-%d", i)}
		c.Add("", rules.Accept())
		base.Add("", rules.Jump(c.Name))
		table.Chains = append(table.Chains, c)
	}
	g := Graph{Title: "many", Tables: []Table{{Title: "inet many", Table: sim.Table{Table: table}}}}
	page := written(t, func(b *strings.Builder) error { return g.HTML(b) })
	chart := written(t, func(b *strings.Builder) error { return g.Mermaid(b) })
	if n := strings.Count(page, "<article"); n != chains+1 {
		t.Errorf("the page has %d chains", n)
	}
	if n := strings.Count(chart, " -->|"); n != chains {
		t.Errorf("the chart has %d jumps", n)
	}
}

// TestColumns: a hook where no rule is drawn has no column of its own, and one at a device names it.
func TestColumns(t *testing.T) {
	chain := func(hook rules.Hook) *rules.Chain {
		c := &rules.Chain{Name: hook.String(), Base: &rules.Base{Type: rules.FilterType, Hook: hook}}
		c.Add("", rules.Accept())
		return c
	}
	others := func(hooks ...rules.Hook) (out []Chain) {
		for _, h := range hooks {
			c := Chain{Title: "of others at " + h.String(), Base: rules.Base{Type: rules.FilterType, Hook: h}}
			if h == rules.Ingress || h == rules.Egress {
				c.Base.Devices = []string{"eth7"}
			}
			out = append(out, c)
		}
		return out
	}
	for _, tt := range []struct {
		why     string
		own     []rules.Hook
		others  []rules.Hook
		columns int
	}{
		{"rules at each hook", []rules.Hook{rules.Prerouting, rules.Input, rules.Output, rules.Postrouting}, nil, 4},
		{"what comes before the first and after the last", []rules.Hook{rules.Prerouting, rules.Output, rules.Postrouting}, []rules.Hook{rules.Ingress, rules.Egress}, 3},
		{"between", []rules.Hook{rules.Prerouting, rules.Output}, []rules.Hook{rules.Input, rules.Forward}, 2},
		{"no rule on a way", []rules.Hook{rules.Postrouting}, []rules.Hook{rules.Prerouting, rules.Forward, rules.Output}, 2},
	} {
		table := &rules.Table{Name: "t"}
		for _, h := range tt.own {
			table.Chains = append(table.Chains, chain(h))
		}
		g := Graph{Tables: []Table{{Title: "inet t", Table: sim.Table{Table: table}}}, Beside: others(tt.others...)}
		page := written(t, func(b *strings.Builder) error { return g.HTML(b) })
		if n := strings.Count(page, `class="column"`); n != tt.columns {
			t.Errorf("%s: %d columns, want %d", tt.why, n, tt.columns)
		}
		if n := strings.Count(page, `class="hook"`); n != len(tt.own)+len(tt.others) {
			t.Errorf("%s: %d hooks are drawn", tt.why, n)
		}
		if want := slices.Contains(tt.others, rules.Egress); strings.Contains(page, "filter 0, eth7") != want || strings.Contains(page, `→</span> <a href="#hook_egress">`) != want {
			t.Errorf("%s: the hooks of devices are not drawn, or named:\n%s", tt.why, page)
		}
	}
}
