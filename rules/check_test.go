// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// problems are the parts of a check's error, each a line.
func problems(s State) []string {
	err := s.Check()
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func base(typ ChainType, hook Hook, priority int32, rules ...Rule) *Chain {
	return &Chain{Name: "in", Base: &Base{Type: typ, Hook: hook, Priority: priority}, Rules: rules}
}

func rule(nodes ...Node) Rule { return Rule{Reason: "r", Nodes: nodes} }

func TestCheckChains(t *testing.T) {
	regular := func(name string, rules ...Rule) *Chain { return &Chain{Name: name, Rules: rules} }
	filter := func(rules ...Rule) *Chain { return base(FilterType, Input, PriorityFilter, rules...) }
	chainOf := func(n int) []*Chain {
		chains := []*Chain{filter(rule(Jump("c1")))}
		for i := 1; i < n; i++ {
			chains = append(chains, regular(fmt.Sprintf("c%d", i), rule(Jump(fmt.Sprintf("c%d", i+1)))))
		}
		return append(chains, regular(fmt.Sprintf("c%d", n), rule(Accept())))
	}
	for _, tt := range []struct {
		why    string
		chains []*Chain
		want   []string
	}{
		{"a chain that is jumped to is fine", []*Chain{filter(rule(Jump("out"))), regular("out", rule(Return()))}, nil},
		{"there is no such chain", []*Chain{filter(rule(Jump("nowhere")))}, []string{`chain in rule 1 "r": jumps to chain nowhere, which does not exist`}},
		{"a base chain is not jumped to", []*Chain{filter(rule(Accept())), regular("out", rule(Goto("in")))},
			[]string{`chain out rule 1 "r": in is a base chain: no rule can jump there`}},
		{"two chains jump to each other", []*Chain{filter(rule(Jump("b"))), regular("a", rule(Jump("b"))), regular("b", rule(Jump("a")))},
			[]string{"chain a: jumps in a circle: a -> b -> a"}},
		{"a chain jumps to itself through a verdict map", []*Chain{regular("a", rule(VMap{Key: []Selector{Selector(TCPDport)},
			Elements: []Element{{Key: []Range{RangeOf(Port(80))}, Verdict: Jump("a")}}}))}, []string{"chain a: jumps in a circle: a -> a"}},
		{"as deep as the kernel goes is fine", chainOf(maxChainDepth - 1), nil},
		{"deeper than the kernel goes", chainOf(maxChainDepth), []string{`chain c15 rule 1 "r": jumps deeper than 16 chains`}},
		{"a chain is declared twice", []*Chain{regular("a"), regular("a")}, []string{"chain a: declared twice"}},
		{"a word of nft's is not a name", []*Chain{regular("accept")}, []string{`chain accept: "accept" is a keyword of nft, not a name for a chain`}},
		{"a name begins with a letter", []*Chain{regular("1st")},
			[]string{`chain 1st: "1st" is not a name for a chain (want a letter, then letters, digits, '_', '-' or '.')`}},
		{"a name is too long", []*Chain{regular(strings.Repeat("a", 256))},
			[]string{"chain " + strings.Repeat("a", 256) + ": the name of a chain has at most 255 bytes"}},
		{"nat has no forward", []*Chain{base(NATType, Forward, 0)}, []string{"chain in: no chain of type nat hooks into forward"}},
		{"nat comes after conntrack", []*Chain{base(NATType, Output, -200)}, []string{"chain in: a nat chain needs a priority over -200 (that of conntrack)"}},
		{"route is output's alone", []*Chain{base(RouteType, Prerouting, 0)}, []string{"chain in: no chain of type route hooks into prerouting"}},
		{"ingress wants devices", []*Chain{base(FilterType, Ingress, 0)}, []string{"chain in: devices belong to ingress, and ingress to devices"}},
		{"a wildcard is not a device", []*Chain{{Name: "in", Base: &Base{Type: FilterType, Hook: Ingress, Devices: []string{"eth*"}}}}, []string{`chain in: "eth*" is not a device`}},
		{"a chain that two base chains reach is told once", []*Chain{
			{Name: "i", Base: &Base{Type: FilterType, Hook: Input}, Rules: []Rule{rule(Jump("c"))}},
			{Name: "o", Base: &Base{Type: FilterType, Hook: Output}, Rules: []Rule{rule(Jump("c"))}},
			regular("c", rule(Jump("nowhere")))}, []string{`chain c rule 1 "r": jumps to chain nowhere, which does not exist`}},
	} {
		if got := problems(State{Table: &Table{Name: "t", Chains: tt.chains}}); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

func TestCheckRules(t *testing.T) {
	nat := base(NATType, Prerouting, PriorityDstNAT)
	post := base(NATType, Postrouting, PrioritySrcNAT)
	raw := base(FilterType, Prerouting, PriorityRaw)
	mangle := base(FilterType, Prerouting, PriorityMangle)
	input := base(FilterType, Input, PriorityFilter)
	port80 := []Element{{Key: []Range{RangeOf(Port(80))}}}
	isTCP := L4Proto.Is(TCP)
	for _, tt := range []struct {
		why   string
		chain *Chain
		nodes []Node
		want  []string
	}{
		{"a rule that says something is fine", input, []Node{TCPDport.Is(80), Accept()}, nil},
		{"a rule says nothing", input, nil, []string{"is empty"}},
		{"nothing comes after a verdict", input, []Node{Accept(), Counter{}}, []string{`nothing after "accept" is ever reached`}},
		{"a jump wants a chain", input, []Node{Verdict{Kind: JumpKind}}, []string{"jump and goto need a chain, other verdicts none"}},
		{"no verdict is none", input, []Node{Verdict{}}, []string{"a verdict says nothing"}},
		{"redirect in nat is fine", nat, []Node{isTCP, RedirectTo(80)}, nil},
		{"redirect in a filter chain", mangle, []Node{isTCP, RedirectTo(80)},
			[]string{"redirect works in nat chains of prerouting and output, not in type filter hook prerouting priority -150; policy accept;"}},
		{"redirect to port 0, where nothing listens, is what the kernel takes", nat, []Node{isTCP, RedirectTo(0)}, nil},
		{"redirect to a range upside down", nat, []Node{isTCP, Redirect{Ports: &Range{RangeOf(Port(9)).Lo, RangeOf(Port(8)).Lo}}}, []string{"redirect wants a port or a range of them"}},
		{"redirect to a port of no protocol", nat, []Node{RedirectTo(80)}, []string{"redirect to a port wants a match on TCP or UDP before it"}},
		{"redirect after a list of TCP and UDP is fine", nat, []Node{L4Proto.In(TCP, UDP), RedirectTo(80)}, nil},
		{"redirect after a list of more", nat, []Node{L4Proto.In(TCP, ICMP), RedirectTo(80)}, []string{"redirect to a port wants a match on TCP or UDP before it"}},
		{"snat in postrouting is fine", post, []Node{NFProto.Is(IPv4), SNAT{To: netip.MustParseAddr("192.0.2.1")}}, nil},
		{"snat in prerouting", nat, []Node{NFProto.Is(IPv4), SNAT{To: netip.MustParseAddr("192.0.2.1")}},
			[]string{"snat works in nat chains of input and postrouting, not in type nat hook prerouting priority -100; policy accept;"}},
		{"dnat in output is fine", nat, []Node{NFProto.Is(IPv4), isTCP, DNAT{To: netip.MustParseAddr("192.0.2.1"), Port: 53}}, nil},
		{"dnat in postrouting", post, []Node{NFProto.Is(IPv4), DNAT{To: netip.MustParseAddr("192.0.2.1")}}, []string{"dnat works in nat chains of prerouting and output, not in type nat hook postrouting priority 100; policy accept;"}},
		{"dnat to nothing", nat, []Node{NFProto.Is(IPv4), DNAT{}}, []string{"dnat wants an address"}},
		{"dnat of the other family", nat, []Node{NFProto.Is(IPv6), DNAT{To: netip.MustParseAddr("192.0.2.1")}}, []string{"dnat to 192.0.2.1 wants a match on ipv4 before it"}},
		{"dnat to a port of any protocol", nat, []Node{NFProto.Is(IPv4), DNAT{To: netip.MustParseAddr("192.0.2.1"), Port: 53}}, []string{"dnat to a port wants a match on TCP or UDP before it"}},
		{"snat to nothing", post, []Node{NFProto.Is(IPv4), SNAT{}}, []string{"snat wants an address"}},
		{"snat to a mapped address", post, []Node{NFProto.Is(IPv6), SNAT{To: netip.MustParseAddr("::ffff:192.0.2.1")}}, []string{"snat wants an address"}},
		{"snat of any family", post, []Node{isTCP, SNAT{To: netip.MustParseAddr("192.0.2.1")}}, []string{"snat to 192.0.2.1 wants a match on ipv4 before it"}},
		{"snat of the other family", post, []Node{NFProto.Is(IPv6), SNAT{To: netip.MustParseAddr("192.0.2.1")}}, []string{"snat to 192.0.2.1 wants a match on ipv4 before it"}},
		{"tproxy in prerouting is fine", mangle, []Node{isTCP, TProxy{Port: 80}, Accept()}, nil},
		{"tproxy in input", input, []Node{isTCP, TProxy{Port: 80}},
			[]string{"tproxy works in filter chains of prerouting, not in type filter hook input priority 0; policy accept;"}},
		{"tproxy twice", mangle, []Node{isTCP, TProxy{Port: 80}, TProxy{Port: 81}}, []string{"hands the packet over twice"}},
		{"tproxy to nowhere", mangle, []Node{isTCP, TProxy{}}, []string{"tproxy wants a port or an address"}},
		{"tproxy to an address of the other family", mangle, []Node{isTCP, TProxy{Family: IPv4, Addr: ones(16)}}, []string{"the address of a tproxy is not of its family"}},
		{"tproxy of a family that was ruled out", mangle, []Node{NFProto.Is(IPv6), isTCP, TProxy{Family: IPv4, Port: 1}}, []string{"a tproxy for ipv4 never meets a packet of ipv6"}},
		{"a zone before conntrack is fine", raw, []Node{CTZone.Set(1)}, nil},
		{"a zone after conntrack", mangle, []Node{CTZone.Set(1)}, []string{"a zone is set before conntrack, in prerouting or output at a priority under -200"}},
		{"notrack before conntrack is fine", raw, []Node{NoTrack{}}, nil},
		{"notrack after conntrack", mangle, []Node{NoTrack{}}, []string{"notrack works before conntrack, in prerouting or output at a priority under -200"}},
		{"a user id cannot be set", input, []Node{Assign{To: Selector(SkUID), Xor: zeros(4)}}, []string{"meta skuid cannot be set"}},
		{"a mark of two bytes", input, []Node{Assign{To: Selector(MetaMark), Xor: zeros(2)}}, []string{"the value for meta mark is not of its length"}},
		{"a mark is not copied from a port", input, []Node{Assign{To: Selector(MetaMark), From: Selector(TCPDport), Mask: ones(4), Xor: zeros(4)}},
			[]string{"tcp dport cannot be copied to meta mark"}},
		{"a list is empty", input, []Node{TCPDport.In(), Accept()}, []string{"tcp dport is compared with nothing"}},
		{"a verdict map is empty", input, []Node{VMap{Key: []Selector{Selector(TCPDport)}}}, []string{"a verdict map is empty"}},
		{"a match reads nothing", input, []Node{Match{Elements: port80}}, []string{"a match reads nothing"}},
		{"a range is upside down", input, []Node{TCPDport.Within(RangeBetween(Port(90), Port(80)))}, []string{"range 90-80 is upside down"}},
		{"a value is of another type", input, []Node{Match{Key: []Selector{Selector(MetaMark)}, Elements: port80}}, []string{"holds a value that is not of type mark"}},
		{"an address of either family wants expanding", input, []Node{Daddr.Is(prefix("10.0.0.0/8"))}, []string{`"daddr" reads an address of either family, which nft cannot (Table.Expand writes the rule once for each)`}},
		{"and its pair of sets is not looked for", input, []Node{Daddr.InSet(SetOf[netip.Prefix]{"nowhere"})}, []string{`"daddr" reads an address of either family, which nft cannot (Table.Expand writes the rule once for each)`}},
		{"an unknown selector reads nothing", input, []Node{Match{Key: []Selector{999}, Elements: port80}}, []string{"selector 999 reads nothing"}},
		{"two protocols never meet", input, []Node{isTCP, UDPDport.Is(53)}, []string{"udp dport never holds for a packet of tcp"}},
		{"two families never meet", input, []Node{IPDaddr.Is(prefix("10.0.0.0/8")), IP6Daddr.Is(prefix("::1/128"))}, []string{"ip6 daddr never holds for a packet of ipv4"}},
		{"a second protocol never holds", input, []Node{TCPDport.Is(80), L4Proto.Is(UDP)}, []string{"meta l4proto udp never holds after what the rule matched before"}},
		{"a port of TCP after a list of protocols", input, []Node{L4Proto.In(TCP, UDP), TCPDport.Is(53)},
			[]string{"nft does not take tcp dport after a list of protocols or families (want a rule for each)"}},
		{"there is no such set", input, []Node{TCPDport.InSet(SetOf[Port]{"nowhere"})}, []string{"set nowhere does not exist"}},
		{"a set is keyed otherwise", input, []Node{MetaMark.InSet(SetOf[Mark]{"ports"})}, []string{"ports is keyed by inet_service, not by meta mark"}},
		{"a set is not a map", input, []Node{VMap{Key: []Selector{Selector(TCPDport)}, Map: "ports"}}, []string{"ports is a set"}},
		{"a map is not a set", input, []Node{TCPDport.InSet(SetOf[Port]{"verdicts"})}, []string{"verdicts is a map"}},
		{"a set and values at once", input, []Node{Match{Key: []Selector{Selector(TCPDport)}, Set: "ports", Elements: port80}},
			[]string{"looks up ports and compares with values too"}},
		{"a concatenation wants a declared set", input, []Node{Match{Key: []Selector{Selector(TCPDport), Selector(TCPSport)},
			Elements: []Element{{Key: []Range{RangeOf(Port(1)), RangeOf(Port(2))}}}}}, []string{"tcp dport . tcp sport wants a declared set"}},
		{"a mask of nothing", input, []Node{MetaMark.Masked(0, 0)}, []string{"the mask of meta mark does not fit it"}},
		{"a port under a mask", input, []Node{TCPDport.Masked(1, 3)}, []string{"the mask of tcp dport does not fit it"}},
		{"bits outside of the mask", input, []Node{MetaMark.Masked(2, 1)}, []string{"0x00000002 has bits outside of its mask 0x00000001"}},
		{"keys of a map overlap", input, []Node{VMap{Key: []Selector{Selector(TCPDport)}, Elements: []Element{
			{Key: []Range{RangeBetween(Port(80), Port(90))}, Verdict: Accept()}, {Key: []Range{RangeOf(Port(85))}, Verdict: Drop()}}}},
			[]string{"has two elements for the same key"}},
		{"ranges of a list may overlap: they are merged", input, []Node{TCPDport.Within(RangeBetween(Port(80), Port(90)), RangeBetween(Port(85), Port(95)))}, nil},
		{"a list holds names and wildcards", input, []Node{IIfName.In("lo", "eth*")}, []string{"holds interface names and wildcards (want a set of each)"}},
		{"a name is too long for an interface", input, []Node{IIfName.Is("abcdefghijklmnop")},
			[]string{`"abcdefghijklmnop" is not an interface name (want 1 to 15 bytes, before an asterisk 1 to 14)`}},
		{"an interface has no slash", input, []Node{IIfName.Is("a/b")}, []string{`"a/b" is not an interface name`}},
		{"elements of another length than the key are told, not tripped over", input, []Node{Match{Key: []Selector{Selector(IIfName)},
			Elements: []Element{{}, {Key: []Range{RangeOf(IfName("lo"))}}}}}, []string{"has an element of 0 parts, where the key has 1"}},
		{"a socket's cgroup needs a level", input, []Node{SocketCgroup(0).Is(1)}, []string{"socket cgroupv2 needs a level of 1 to 255"}},
		{"a socket is not looked up in forward", base(FilterType, Forward, 0), []Node{SocketTransparent.Is(true)},
			[]string{"socket transparent works in prerouting, input and output, not in forward"}},
		{"what the model does not know cannot be written", input, []Node{Opaque{Name: "limit"}}, []string{"holds limit, which the model does not know"}},
		{"more than the kernel takes in one rule", input, slices.Concat(slices.Repeat([]Node{Counter{}}, 43), []Node{Accept()}),
			[]string{"holds 44 matches and statements, more than fit into one rule"}},
	} {
		chain := *tt.chain
		chain.Rules = []Rule{rule(Counter{}), rule(tt.nodes...)}
		want := mapped(tt.want, func(s string) string { return `chain in rule 2 "r": ` + s })
		got := problems(State{Table: &Table{Name: "t", Chains: []*Chain{&chain}, Sets: []*Set{
			{Name: "ports", Key: []DataType{inetService}},
			{Name: "verdicts", Key: []DataType{inetService}, Verdicts: true},
		}}})
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.why, got, want)
		}
	}
}

func TestCheckReasons(t *testing.T) {
	long := strings.Repeat("a", MaxComment+1)
	for _, tt := range []struct {
		why, reason string
		want        []string
	}{
		{"as long as nft takes is fine", strings.Repeat("a", MaxComment), nil},
		{"letters beyond ASCII are fine", "für alle", nil},
		{"no reason is fine", "", nil},
		{"longer than nft takes", long, []string{fmt.Sprintf("chain in rule 1 %q: %q is 129 bytes long (at most 128)", long, long)}},
		{"a quote would end the comment", `a "b"`, []string{`chain in rule 1 "a \"b\"": "a \"b\"" holds a double quote or a control character`}},
		{"a line break is not text", "a\nb", []string{`chain in rule 1 "a\nb": "a\nb" holds a double quote or a control character`}},
	} {
		s := State{Table: &Table{Name: "t", Chains: []*Chain{base(FilterType, Input, 0, Rule{tt.reason, []Node{Accept()}})}}}
		if got := problems(s); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

func TestCheckSets(t *testing.T) {
	port := func(p Port) []Range { return []Range{RangeOf(p)} }
	key := []DataType{inetService}
	for _, tt := range []struct {
		why  string
		set  Set
		want []string
	}{
		{"a plain set is fine", Set{Key: key, Elements: []Element{{Key: port(80)}}}, nil},
		{"a live set that times out is fine", Set{Key: key, Live: true, Dynamic: true, Size: 9, Expires: true, Timeout: time.Minute}, nil},
		{"a dynamic set has a size", Set{Key: key, Live: true, Dynamic: true}, []string{"has no size: to a dynamic set the kernel gives one (want a size)"}},
		{"an element counts or has a quota", Set{Key: key, Counters: true, Quota: 1}, []string{"has a counter and a quota, of which an element has one"}},
		{"a set without a key", Set{}, []string{"has no key"}},
		{"no set holds zones", Set{Key: []DataType{zone}}, []string{"has a key of a type that no set can hold"}},
		{"a key of too many parts", Set{Key: slices.Repeat(key, 6)}, []string{"has a key of 6 parts and 24 bytes (at most 5 and 64)"}},
		{"a key of too many bytes", Set{Key: slices.Repeat([]DataType{ipv6Addr}, 5)}, []string{"has a key of 5 parts and 80 bytes (at most 5 and 64)"}},
		{"nft has no ranges of states", Set{Key: []DataType{ctState}, Interval: true}, []string{"cannot be an interval set: nft has no ranges of ct_state"}},
		{"nft has no ranges of TCP flags", Set{Key: []DataType{tcpFlags}, Interval: true}, []string{"cannot be an interval set: nft has no ranges of tcp_flag"}},
		{"nft cannot list TCP flags beside another part", Set{Key: []DataType{tcpFlags, markType}}, []string{"has a key of several parts with tcp_flag, which nft cannot list"}},
		{"a verdict map cannot be live", Set{Key: key, Verdicts: true, Live: true}, []string{"a verdict map cannot be live: its chains are made anew with every change"}},
		{"elements of a set that is not live stay", Set{Key: key, Dynamic: true, Size: 9}, []string{"elements that come and go by themselves want a live set"}},
		{"a dynamic set has no ranges", Set{Key: key, Live: true, Dynamic: true, Interval: true}, []string{"cannot be both dynamic and interval"}},
		{"a timeout wants its flag", Set{Key: key, Live: true, Timeout: time.Second}, []string{"has a timeout without the timeout flag"}},
		{"a gc-interval wants the flag", Set{Key: key, Live: true, Sweep: time.Second}, []string{"has a gc-interval without the timeout flag"}},
		{"a gc-interval has an end", Set{Key: key, Live: true, Expires: true, Sweep: 48 * time.Hour}, []string{"has a gc-interval of 48h0m0s (want at most 24h0m0s)"}},
		{"a timeout is of whole seconds", Set{Key: key, Live: true, Expires: true, Timeout: time.Millisecond},
			[]string{"a timeout of 1ms (want whole seconds: kernels count in their own ticks)"}},
		{"an interval set has no size", Set{Key: key, Interval: true, Size: 9}, []string{"an interval set has no size: kernels differ in what they count"}},
		{"more than there is room for", Set{Key: key, Size: 1, Elements: []Element{{Key: port(80)}, {Key: port(81)}}}, []string{"holds 2 elements, and room for 1"}},
		{"a twin takes no room", Set{Key: key, Size: 1, Elements: []Element{{Key: port(80)}, {Key: port(80)}}}, nil},
		{"a range wants an interval set", Set{Key: key, Elements: elementsOf(ports([2]Port{80, 90}))}, []string{"holds the range 80-90 but no interval flag"}},
		{"a range is upside down", Set{Key: key, Interval: true, Elements: elementsOf(ports([2]Port{90, 80}))}, []string{"range 90-80 is upside down"}},
		{"an element is of another type", Set{Key: key, Elements: []Element{{Key: []Range{RangeOf(TCP)}}}}, []string{"holds a value that is not of type inet_service"}},
		{"an element lacks a part", Set{Key: []DataType{inetService, markType}, Elements: []Element{{Key: port(80)}}},
			[]string{"has an element of 1 parts, where the key has 2"}},
		{"an element of a map wants a verdict", Set{Key: key, Verdicts: true, Elements: []Element{{Key: port(80)}}}, []string{"has an element without a verdict"}},
		{"an element of a set has no verdict", Set{Key: key, Elements: []Element{{Key: port(80), Verdict: Drop()}}},
			[]string{"has an element with a verdict, but is not a verdict map"}},
		{"a map jumps to nowhere", Set{Key: key, Verdicts: true, Elements: []Element{{Key: port(80), Verdict: Jump("nowhere")}}},
			[]string{"jumps to chain nowhere, which does not exist"}},
		{"keys of a map overlap", Set{Key: key, Verdicts: true, Interval: true, Elements: []Element{
			{Key: ports([2]Port{80, 90}), Verdict: Drop()}, {Key: ports([2]Port{90, 91}), Verdict: Drop()}}}, []string{"has two elements for the same key"}},
		{"two comments for one key", Set{Key: key, Elements: []Element{{Key: port(80), Comment: "a"}, {Key: port(80), Comment: "b"}}},
			[]string{"has two elements for the same key"}},
		{"concatenations that overlap in one part alone are fine", Set{Key: slices.Repeat(key, 2), Interval: true, Elements: []Element{
			{Key: ports([2]Port{1, 9}, [2]Port{1, 1})}, {Key: ports([2]Port{5, 9}, [2]Port{2, 2})}}}, nil},
		{"concatenations that overlap in every part", Set{Key: slices.Repeat(key, 2), Interval: true, Elements: []Element{
			{Key: ports([2]Port{1, 9}, [2]Port{1, 5})}, {Key: ports([2]Port{2, 3}, [2]Port{7, 9})}, {Key: ports([2]Port{9, 9}, [2]Port{5, 6})}}},
			[]string{"has two elements for the same key"}},
		{"an element's timeout wants the flag", Set{Key: key, Elements: []Element{{Key: port(80), Timeout: time.Second}}},
			[]string{"has an element with a timeout, and no timeout flag"}},
		{"an element's comment has no quote", Set{Key: key, Elements: []Element{{Key: port(80), Comment: `"`}}},
			[]string{`"\"" holds a double quote or a control character`}},
		{"what the kernel holds besides", Set{Key: key, Others: "a gc-interval"}, []string{"has a gc-interval, which the model does not know"}},
		{"the same problem of two elements is told once", Set{Key: key, Elements: []Element{{Key: port(80), Verdict: Drop()}, {Key: port(81), Verdict: Drop()}}},
			[]string{"has an element with a verdict, but is not a verdict map"}},
	} {
		tt.set.Name = "s"
		want := mapped(tt.want, func(w string) string { return tt.set.kind() + " s: " + w })
		if got := problems(State{Table: &Table{Name: "t", Sets: []*Set{&tt.set}}}); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.why, got, want)
		}
	}
}

func TestCheckRest(t *testing.T) {
	for _, tt := range []struct {
		why   string
		state State
		want  []string
	}{
		{"nothing is fine", State{}, nil},
		{"routing of both families is fine", State{
			PolicyRules: []PolicyRule{{IPv4, 1, 1, 1, 7, "", 0}, {IPv6, 1, 1, 1, 7, "", 0}},
			Routes:      []Route{{IPv4, 7, prefix("0.0.0.0/0"), ""}, {IPv6, 7, prefix("::/0"), ""}},
			Addresses:   []netip.Prefix{prefix("10.0.0.1/32")}}, nil},
		{"a table has room for its helpers' names", State{Table: &Table{Name: strings.Repeat("t", 251)}}, []string{"table: the name of a table has at most 250 bytes"}},
		{"a table without a name", State{Table: &Table{}}, []string{`table: "" is not a name for a table (want a letter, then letters, digits, '_', '-' or '.')`}},
		{"a table holds what was not asked for", State{Table: &Table{Name: "t", Others: []string{"a flowtable"}}},
			[]string{"table: inet t holds a flowtable, which the model does not know"}},
		{"a set is declared twice", State{Table: &Table{Name: "t", Sets: []*Set{{Name: "s", Key: []DataType{markType}}, {Name: "s", Key: []DataType{markType}}}}},
			[]string{"set s: declared twice"}},
		{"a set takes the name of the notes", State{Table: &Table{Name: "t", Sets: []*Set{{Name: "tag", Key: []DataType{markType}}}}},
			[]string{"set tag: the name is taken: that set says who wrote the table"}},
		{"a mark has bits outside of its mask", State{PolicyRules: []PolicyRule{{IPv4, 9, 3, 1, 7, "", 0}}}, []string{"policy rule 9: the mark 0x3 wants a mask that covers it, not 0x1"}},
		{"a mask covers nothing: the rule is for every packet", State{PolicyRules: []PolicyRule{{IPv4, 9, 0, 0, 7, "", 0}}}, nil},
		{"and a mark is outside of it", State{PolicyRules: []PolicyRule{{IPv4, 9, 1, 0, 7, "", 0}}}, []string{"policy rule 9: the mark 0x1 wants a mask that covers it, not 0x0"}},
		{"policy rules for what is sent here, and to go on elsewhere, are fine", State{PolicyRules: []PolicyRule{{IPv4, 9, 1, 1, 7, "lo", 0}, {IPv6, 9, 1, 1, 0, "", 10}}}, nil},
		{"a policy rule goes back", State{PolicyRules: []PolicyRule{{IPv4, 9, 1, 1, 0, "", 9}}}, []string{"policy rule 9: goes back to 9"}},
		{"a policy rule does two things", State{PolicyRules: []PolicyRule{{IPv4, 9, 1, 1, 7, "", 10}}}, []string{"policy rule 9: looks up table 7, and goes to 10"}},
		{"a policy rule does nothing", State{PolicyRules: []PolicyRule{{IPv4, 9, 1, 1, 0, "lo", 0}}}, []string{"policy rule 9: wants a routing table other than 0"}},
		{"a policy rule for a wildcard", State{PolicyRules: []PolicyRule{{IPv4, 9, 1, 1, 7, "eth*", 0}}}, []string{`policy rule 9: "eth*" is not an interface: policy rules know no wildcards`}},
		{"a routing table of number 0", State{Routes: []Route{{IPv4, 0, prefix("10.0.0.0/8"), ""}}}, []string{"route 10.0.0.0/8: wants a routing table other than 0"}},
		{"a route of no family", State{PolicyRules: []PolicyRule{{0, 9, 1, 1, 7, "", 0}}}, []string{"policy rule 9: 0 is neither ipv4 nor ipv6"}},
		{"a route of the other family", State{Routes: []Route{{IPv6, 7, prefix("10.0.0.0/8"), ""}}}, []string{"route 10.0.0.0/8: the destination is not a prefix of family ipv6"}},
		{"no address", State{Addresses: []netip.Prefix{{}}}, []string{"address invalid Prefix: is not an address with a prefix length"}},
	} {
		if got := problems(tt.state); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.why, got, tt.want)
		}
	}
}
