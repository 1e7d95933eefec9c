// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

func ports(words ...[2]Port) []Range {
	return mapped(words, func(w [2]Port) Range { return RangeBetween(w[0], w[1]) })
}

func addresses(words ...[2]string) []Range {
	return mapped(words, func(w [2]string) Range {
		one := func(s string) netip.Prefix { a := netip.MustParseAddr(s); return netip.PrefixFrom(a, a.BitLen()) }
		return RangeBetween(one(w[0]), one(w[1]))
	})
}

func elementsOf(ranges []Range) []Element {
	return mapped(ranges, func(r Range) Element { return Element{Key: []Range{r}} })
}

func TestNormalElements(t *testing.T) {
	names := func(ns ...IfName) []Range { return mapped(ns, RangeOf[IfName]) }
	plain := Set{Key: []DataType{inetService}}
	portSet := Set{Key: []DataType{inetService}, Interval: true}
	v4 := Set{Key: []DataType{ipv4Addr}, Interval: true}
	v6 := Set{Key: []DataType{ipv6Addr}, Interval: true}
	ifaces := Set{Key: []DataType{ifNameType}, Interval: true}
	live := Set{Key: []DataType{inetService}, Interval: true, Live: true}
	for _, tt := range []struct {
		why      string
		set      Set
		in, want []Range
	}{
		{"an empty list stays empty", portSet, nil, nil},
		{"elements come sorted", plain, ports([2]Port{443, 443}, [2]Port{80, 80}), ports([2]Port{80, 80}, [2]Port{443, 443})},
		{"an element said twice is there once", plain, ports([2]Port{80, 80}, [2]Port{80, 80}), ports([2]Port{80, 80})},
		{"neighbours of a set without ranges stay apart", plain, ports([2]Port{80, 80}, [2]Port{81, 81}), ports([2]Port{80, 80}, [2]Port{81, 81})},
		{"neighbours of a set with ranges are one", portSet, ports([2]Port{80, 80}, [2]Port{81, 81}), ports([2]Port{80, 81})},
		{"ranges that overlap are one", portSet, ports([2]Port{80, 90}, [2]Port{85, 100}), ports([2]Port{80, 100})},
		{"a range within another is gone", portSet, ports([2]Port{1, 1000}, [2]Port{5, 6}), ports([2]Port{1, 1000})},
		{"a range within another does not shorten it for the next", portSet, ports([2]Port{1, 1000}, [2]Port{5, 6}, [2]Port{900, 1001}), ports([2]Port{1, 1001})},
		{"ranges with a gap stay two", portSet, ports([2]Port{80, 89}, [2]Port{91, 99}), ports([2]Port{80, 89}, [2]Port{91, 99})},
		{"a gap that is filled makes one of three", portSet, ports([2]Port{91, 99}, [2]Port{80, 89}, [2]Port{90, 90}), ports([2]Port{80, 99})},
		{"the last port joins what is before it", portSet, ports([2]Port{65535, 65535}, [2]Port{65000, 65534}), ports([2]Port{65000, 65535})},
		{"the last port is not a neighbour of the first", portSet, ports([2]Port{65535, 65535}, [2]Port{0, 0}), ports([2]Port{0, 0}, [2]Port{65535, 65535})},
		{"two halves are every port", portSet, ports([2]Port{32768, 65535}, [2]Port{0, 32767}), ports([2]Port{0, 65535})},
		{"neighbours are found across a carry", portSet, ports([2]Port{0, 255}, [2]Port{256, 300}), ports([2]Port{0, 300})},
		{"prefixes that follow each other are one range", v4, []Range{RangeOf(prefix("10.0.1.0/24")), RangeOf(prefix("10.0.0.0/24"))}, []Range{RangeOf(prefix("10.0.0.0/23"))}},
		{"the last IPv4 address joins what is before it", v4, addresses([2]string{"255.255.255.255", "255.255.255.255"}, [2]string{"255.0.0.0", "255.255.255.254"}), []Range{RangeOf(prefix("255.0.0.0/8"))}},
		{"the last IPv6 address joins what is before it", v6,
			addresses([2]string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}, [2]string{"ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"}),
			[]Range{RangeOf(prefix("ffff::/16"))}},
		{"the last IPv6 address is not a neighbour of the first", v6, addresses([2]string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}, [2]string{"::", "::"}),
			addresses([2]string{"::", "::"}, [2]string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"})},
		{"a wildcard takes in a longer one", ifaces, names("eth0*", "eth*"), names("eth*")},
		{"wildcards that follow each other stay two: no wildcard is both", ifaces, names("eth1*", "eth0*"), names("eth0*", "eth1*")},
		{"a range of wildcards that were made one is all of them", ifaces, []Range{{RangeOf(IfName("eth0*")).Lo, RangeOf(IfName("eth2*")).Hi}}, names("eth0*", "eth1*", "eth2*")},
		{"a range of wildcards may begin with a longer one", ifaces, []Range{{RangeOf(IfName("eth\xff*")).Lo, RangeOf(IfName("eti*")).Hi}}, names("eth\xff*", "eti*")},
		{"a range of wildcards may end with a name", ifaces, []Range{{RangeOf(IfName("a*")).Lo, RangeOf(IfName("b")).Lo}}, names("a*", "b")},
		{"a range that begins within a wildcard stays one", ifaces, []Range{{RangeOf(IfName("eth0")).Lo, RangeOf(IfName("eth1*")).Hi.Before()}}, []Range{{RangeOf(IfName("eth0")).Lo, RangeOf(IfName("eth1*")).Hi.Before()}}},
		{"ranges of a live set stay as the kernel has them", live, ports([2]Port{80, 80}, [2]Port{81, 81}), ports([2]Port{80, 80}, [2]Port{81, 81})},
	} {
		tt.set.Elements = elementsOf(tt.in)
		before := slices.Clone(tt.set.Elements)
		got := State{Table: &Table{Sets: []*Set{&tt.set}}}.Normal().Table.Sets[0].Elements
		if want := elementsOf(tt.want); len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", tt.why, elementTexts(got, tt.set.Key), elementTexts(want, tt.set.Key))
		}
		if !reflect.DeepEqual(before, tt.set.Elements) {
			t.Errorf("%s: the state itself was changed", tt.why)
		}
	}
}

func TestNormalKeepsWhatAnElementSays(t *testing.T) {
	port := func(p Port) []Range { return []Range{RangeOf(p)} }
	for _, tt := range []struct {
		why  string
		set  Set
		want int
	}{
		{"a comment keeps an element apart from its neighbour", Set{Key: []DataType{inetService}, Interval: true,
			Elements: []Element{{Key: port(80), Comment: "web"}, {Key: port(81)}}}, 2},
		{"two comments for one key are two elements, to be complained of", Set{Key: []DataType{inetService}, Interval: true,
			Elements: []Element{{Key: port(80), Comment: "a"}, {Key: port(80), Comment: "b"}}}, 2},
		{"what a dump counted does not keep twins apart", Set{Key: []DataType{inetService}, Counters: true,
			Elements: []Element{{Key: port(80), Counter: Counter{1, 60}}, {Key: port(80)}}}, 1},
		{"verdicts of neighbours stay apart even when they are the same", Set{Key: []DataType{inetService}, Interval: true, Verdicts: true,
			Elements: []Element{{Key: port(80), Verdict: Drop()}, {Key: port(81), Verdict: Drop()}}}, 2},
		{"ranges of a concatenation stay apart", Set{Key: []DataType{inetService, inetService}, Interval: true,
			Elements: []Element{{Key: []Range{RangeOf(Port(1)), RangeBetween(Port(1), Port(5))}}, {Key: []Range{RangeOf(Port(1)), RangeBetween(Port(6), Port(9))}}}}, 2},
	} {
		n := State{Table: &Table{Sets: []*Set{&tt.set}}}.Normal()
		if got := n.Table.Sets[0].Elements; len(got) != tt.want {
			t.Errorf("%s: got %s", tt.why, elementTexts(got, tt.set.Key))
		}
	}
}

func TestNormalRule(t *testing.T) {
	isTCP, isUDP, isIPv4 := L4Proto.Is(TCP), L4Proto.Is(UDP), NFProto.Is(IPv4)
	ten := prefix("10.0.0.0/8")
	for _, tt := range []struct {
		why   string
		nodes []Node
		want  string
	}{
		{"a port of TCP implies TCP before it", []Node{isTCP, TCPDport.Is(80)}, "tcp dport 80"},
		{"and after it", []Node{TCPDport.Is(80), isTCP}, "tcp dport 80"},
		{"matches in between change nothing", []Node{isTCP, SkUID.Is(1), TCPDport.Is(80)}, "meta skuid 1 tcp dport 80"},
		{"a statement in between sees every packet of TCP, so the match stays", []Node{isTCP, Counter{}, TCPDport.Is(80)}, "meta l4proto tcp counter tcp dport 80"},
		{"a statement does not bring back what was settled before it", []Node{TCPDport.Is(80), Counter{}, isTCP}, "tcp dport 80 counter"},
		{"a port of UDP does not imply TCP", []Node{isTCP, UDPDport.Is(53)}, "meta l4proto tcp udp dport 53"},
		{"a port does not imply that the packet is not of TCP", []Node{L4Proto.Not(TCP), TCPDport.Is(80)}, "meta l4proto != tcp tcp dport 80"},
		{"a port does not imply a list of protocols", []Node{L4Proto.In(TCP, UDP), TCPDport.Is(80)}, "meta l4proto { tcp, udp } tcp dport 80"},
		{"a port of any transport implies no protocol", []Node{L4Proto.Is(33), ThDport.Is(80)}, "meta l4proto dccp th dport 80"},
		{"a port after TCP is a port of TCP", []Node{isTCP, ThDport.Is(80)}, "tcp dport 80"},
		{"a source port after UDP is a source port of UDP", []Node{isUDP, ThSport.Is(53)}, "udp sport 53"},
		{"a port after a port of TCP is one of TCP too", []Node{TCPDport.Is(80), ThSport.Is(1)}, "tcp dport 80 tcp sport & 65535 == 1"},
		{"a port after TCP and a statement is one of TCP", []Node{isTCP, Counter{}, ThDport.Is(80)}, "meta l4proto tcp counter tcp dport 80"},
		{"a port before TCP was settled stays as it is", []Node{ThDport.Is(80), isTCP}, "th dport 80 meta l4proto tcp"},
		{"a port after a list of protocols stays as it is", []Node{L4Proto.In(TCP, UDP), ThDport.Is(53)}, "meta l4proto { tcp, udp } th dport 53"},
		{"a port after no TCP stays as it is", []Node{L4Proto.Not(TCP), ThDport.Is(53)}, "meta l4proto != tcp th dport 53"},
		{"a port in a concatenation after TCP is one of TCP", []Node{isTCP, lookupIn("s", Selector(IPDaddr), Selector(ThDport))}, "ip daddr . tcp dport @s"},
		{"an address implies its family", []Node{isIPv4, IPDaddr.Is(ten)}, "ip daddr 10.0.0.0/8"},
		{"an address in a concatenation implies its family", []Node{isIPv4, lookupIn("s", Selector(IPDaddr), Selector(MetaMark))}, "ip daddr . meta mark @s"},
		{"an address of IPv6 does not imply IPv4", []Node{isIPv4, IP6Daddr.Is(prefix("::1/128"))}, "meta nfproto ipv4 ip6 daddr ::1"},
		{"a negated address implies its family all the same", []Node{isIPv4, IPDaddr.Not(ten)}, "ip daddr != 10.0.0.0/8"},
		{"a verdict map implies what its key does", []Node{isTCP, VMap{Key: []Selector{Selector(TCPDport)}, Map: "m"}}, "tcp dport vmap @m"},
		{"what follows a verdict map was not settled before it", []Node{isTCP, VMap{Key: []Selector{Selector(MetaMark)}, Map: "m"}, TCPDport.Is(80)},
			"meta l4proto tcp meta mark vmap @m tcp dport 80"},
		{"a tproxy is of the family that is settled", []Node{isIPv4, isTCP, TProxy{Port: 1}}, "meta nfproto ipv4 meta l4proto tcp tproxy ip to :1"},
		{"a mask of all ones is none", []Node{MetaMark.Masked(1, 0xffffffff)}, "meta mark 0x00000001"},
		{"a mask of some bits stays", []Node{MetaMark.Masked(1, 0xff)}, "meta mark & 0x000000ff == 0x00000001"},
		{"the first bits of an address are a prefix", []Node{Match{Key: []Selector{Selector(IPDaddr)}, Mask: "\xff\x00\x00\x00", Elements: elementsOf(addresses([2]string{"10.0.0.0", "10.0.0.0"}))}},
			"ip daddr 10.0.0.0/8"},
		{"other bits of an address stay under their mask", []Node{Match{Key: []Selector{Selector(IPDaddr)}, Mask: "\x00\xff\x00\x00", Elements: elementsOf(addresses([2]string{"0.1.0.0", "0.1.0.0"}))}},
			"ip daddr & 0.255.0.0 == 0.1.0.0"},
		{"a list with a range is merged", []Node{TCPDport.Within(ports([2]Port{443, 443}, [2]Port{80, 90}, [2]Port{91, 91})...)}, "tcp dport { 80-91, 443 }"},
		{"a list that merges into one is compared, not looked up", []Node{TCPDport.Within(ports([2]Port{85, 99}, [2]Port{80, 90})...)}, "tcp dport 80-99"},
		{"a list of values is sorted and stays one of values", []Node{TCPDport.In(81, 80)}, "tcp dport { 80, 81 }"},
		{"a value said twice is compared, not looked up", []Node{TCPDport.In(80, 80)}, "tcp dport 80"},
		{"verdicts of neighbours stay apart", []Node{VMap{Key: []Selector{Selector(TCPDport)}, Elements: []Element{
			{Key: ports([2]Port{81, 90}), Verdict: Drop()}, {Key: ports([2]Port{1, 80}), Verdict: Drop()}}}}, "tcp dport vmap { 1-80 : drop, 81-90 : drop }"},
	} {
		s := State{Table: &Table{Chains: []*Chain{{Rules: []Rule{{Nodes: tt.nodes}}}}}}
		n := s.Normal()
		if got := n.Table.Chains[0].Rules[0].String(); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.why, got, tt.want)
		}
		if twice := n.Normal(); !reflect.DeepEqual(twice, n) {
			t.Errorf("%s: normal twice is %s", tt.why, twice.Table.Chains[0].Rules[0])
		}
	}
}

func TestNormalRouting(t *testing.T) {
	s := State{
		PolicyRules: []PolicyRule{{IPv6, 100, 1, 1, 7, "", 0}, {IPv4, 100, 1, 1, 7, "", 0}, {IPv6, 100, 1, 1, 7, "", 0}},
		Routes:      []Route{{IPv4, 7, prefix("10.1.2.3/8"), ""}, {IPv4, 7, prefix("0.0.0.0/0"), ""}, {IPv4, 7, prefix("10.0.0.0/8"), ""}},
		Addresses:   []netip.Prefix{prefix("fd00::1/128"), prefix("10.0.0.1/32"), prefix("10.0.0.1/32")},
	}
	want := []string{
		"ip address add 10.0.0.1/32 dev lo scope host",
		"ip address add fd00::1/128 dev lo nodad",
		"ip route add local default dev lo table 7 protocol 119",
		"ip route add local 10.0.0.0/8 dev lo table 7 protocol 119",
		"ip rule add priority 100 fwmark 0x1/0x1 lookup 7 protocol 119",
		"ip -6 rule add priority 100 fwmark 0x1/0x1 lookup 7 protocol 119",
	}
	if got := s.Normal().Routing(); !slices.Equal(got, want) {
		t.Errorf("routing is sorted, masked and said once: got %q", got)
	}
}

func lookupIn(set string, key ...Selector) Match { return Match{Key: key, Set: set} }
