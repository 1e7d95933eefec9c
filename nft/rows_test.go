// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// allRows are all rows of the completeness test: those of the statements, those
// of the sets, and for each selector what it can be compared with.
func allRows(t *testing.T) []row {
	for _, d := range setTypes() {
		if len(valuesOf[d].singles) < 2 {
			t.Fatalf("there are no values of type %s here", d)
		}
	}
	rows := slices.Concat(statementRows(), setRows(), hookRows())
	for _, s := range kernelSelectors() {
		if s == socketCgroup {
			s = rules.SocketCgroup(2).Selector()
		}
		rows = append(rows, selectorRows(t, s)...)
	}
	return rows
}

var (
	outputNAT       = &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}
	preroutingNAT   = &rules.Base{Type: rules.NATType, Hook: rules.Prerouting, Priority: rules.PriorityDstNAT}
	inputNAT        = &rules.Base{Type: rules.NATType, Hook: rules.Input, Priority: rules.PrioritySrcNAT}
	postroutingNAT  = &rules.Base{Type: rules.NATType, Hook: rules.Postrouting, Priority: rules.PrioritySrcNAT}
	atInput         = &rules.Base{Type: rules.FilterType, Hook: rules.Input}
	forwarded       = &rules.Base{Type: rules.FilterType, Hook: rules.Forward}
	mangle          = &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: rules.PriorityMangle}
	beforeConntrack = &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: rules.PriorityRaw}
	route           = &rules.Base{Type: rules.RouteType, Hook: rules.Output, Priority: rules.PriorityMangle}
	rawRoute        = &rules.Base{Type: rules.RouteType, Hook: rules.Output, Priority: rules.PriorityRaw - 1}
	tcp             = rules.L4Proto.Is(rules.TCP)
)

// longestReason has 128 bytes.
var longestReason = fmt.Sprintf("%-128s", `a reason may hold é, \, %, $x, #, ; and {brackets} and be 128 bytes long, less one for é`)[:128]

func nodes(list ...rules.Node) []rules.Node { return list }

func ports(lo, hi rules.Port) *rules.Range {
	r := rules.RangeBetween(lo, hi)
	return &r
}

func addr(text string) rules.Bits { return rules.Bits(netip.MustParseAddr(text).AsSlice()) }

func statementRows() []row {
	const everyBit = ^rules.Mark(0)
	return []row{
		{why: "a packet is let through", nodes: nodes(rules.Accept()), broken: nodes(rules.Accept(), rules.Counter{})},
		{why: "a packet is dropped", nodes: nodes(rules.Drop()), broken: nodes(rules.Drop(), rules.Drop())},
		{why: "a packet goes back", nodes: nodes(rules.Return()), broken: nodes(rules.Verdict{})},
		{why: "a packet goes on", nodes: nodes(rules.Verdict{Kind: rules.ContinueKind}), broken: nodes(rules.Verdict{Kind: rules.ContinueKind, Chain: "there"})},
		{why: "a packet goes through another chain", nodes: nodes(rules.Jump("there")), broken: nodes(rules.Jump("nowhere"))},
		{why: "a packet goes to another chain for good", nodes: nodes(rules.Goto("there")), broken: nodes(rules.Goto(""))},
		{why: "packets are counted", nodes: nodes(rules.Counter{}), broken: nodes(rules.Counter{}, rules.Opaque{Name: "quota"})},
		{why: longestReason, nodes: nodes(rules.Counter{}), broken: nodes()},

		{why: "a connection goes to a port of this host", base: outputNAT, nodes: nodes(tcp, rules.RedirectTo(15001)), broken: nodes(rules.RedirectTo(15001))},
		{why: "a connection goes to one of several ports", base: preroutingNAT,
			nodes:  nodes(rules.UDPDport.Is(53), rules.Redirect{Ports: ports(15053, 15060)}),
			broken: nodes(rules.UDPDport.Is(53), rules.Redirect{Ports: ports(15060, 15053)})},
		{why: "a connection goes to the highest port", base: outputNAT, nodes: nodes(tcp, rules.RedirectTo(65535)), broken: nodes(rules.RedirectTo(65535))},
		{why: "a connection goes to port 0, where nothing listens", base: outputNAT, nodes: nodes(tcp, rules.RedirectTo(0)), broken: nodes(rules.RedirectTo(0))},
		{why: "a connection goes to this host, on its own port", base: outputNAT, nodes: nodes(rules.Redirect{}), broken: nodes(rules.Redirect{}, rules.Accept())},
		{why: "a list of protocols is enough for a redirect", base: outputNAT,
			nodes:  nodes(rules.L4Proto.In(rules.TCP, rules.UDP), rules.RedirectTo(15001)),
			broken: nodes(rules.L4Proto.In(rules.TCP, rules.ICMP), rules.RedirectTo(15001))},

		{why: "a connection gets another source", base: postroutingNAT,
			nodes:  nodes(rules.IPDaddr.Is(prefix("10.0.0.1/32")), rules.SNAT{To: netip.MustParseAddr("169.254.7.127")}),
			broken: nodes(rules.IP6Daddr.Is(prefix("::1/128")), rules.SNAT{To: netip.MustParseAddr("169.254.7.127")})},
		{why: "an IPv6 connection gets another source", base: inputNAT,
			nodes:  nodes(rules.NFProto.Is(rules.IPv6), tcp, rules.SNAT{To: netip.MustParseAddr("fd16:9254:7127:1337:ffff:ffff:ffff:ffff")}),
			broken: nodes(rules.NFProto.Is(rules.IPv6), tcp, rules.SNAT{})},

		{why: "a connection gets another destination", base: outputNAT,
			nodes:  nodes(rules.IPDaddr.Is(prefix("10.0.0.1/32")), rules.DNAT{To: netip.MustParseAddr("10.96.0.10")}),
			broken: nodes(tcp, rules.DNAT{To: netip.MustParseAddr("10.96.0.10")})},
		{why: "an IPv6 connection gets another destination and port", base: preroutingNAT,
			nodes:  nodes(rules.NFProto.Is(rules.IPv6), rules.UDPDport.Is(53), rules.DNAT{To: netip.MustParseAddr("::1"), Port: 8600}),
			broken: nodes(rules.NFProto.Is(rules.IPv6), rules.DNAT{To: netip.MustParseAddr("::1"), Port: 8600})},

		{why: "a packet is handed to a transparent socket", base: mangle, nodes: nodes(tcp, rules.TProxy{Port: 15006}), broken: nodes(rules.TProxy{Port: 15006})},
		{why: "an IPv4 packet is handed over", base: mangle, nodes: nodes(tcp, rules.TProxy{Family: rules.IPv4, Port: 15006}),
			broken: nodes(tcp, rules.TProxy{Family: 7, Port: 15006})},
		{why: "an IPv6 packet is handed over", base: mangle, nodes: nodes(rules.UDPDport.Is(53), rules.TProxy{Family: rules.IPv6, Port: 15053}),
			broken: nodes(rules.IPDaddr.Is(prefix("10.0.0.1/32")), rules.UDPDport.Is(53), rules.TProxy{Family: rules.IPv6, Port: 15053})},
		{why: "an IPv4 packet is handed to a socket on an address", base: mangle,
			nodes:  nodes(tcp, rules.TProxy{Family: rules.IPv4, Addr: addr("127.0.0.1"), Port: 15006}),
			broken: nodes(tcp, rules.TProxy{Family: rules.IPv6, Addr: addr("127.0.0.1"), Port: 15006})},
		{why: "an IPv6 packet is handed to a socket on an address", base: mangle,
			nodes:  nodes(tcp, rules.TProxy{Family: rules.IPv6, Addr: addr("::1"), Port: 15006}),
			broken: nodes(tcp, rules.TProxy{Addr: addr("::1"), Port: 15006})},
		{why: "a packet is handed to a socket on an address and its own port", base: mangle,
			nodes: nodes(tcp, rules.TProxy{Family: rules.IPv4, Addr: addr("127.0.0.1")}), broken: nodes(tcp, rules.TProxy{Family: rules.IPv4})},
		{why: "a tproxy takes the family that a match settled", base: mangle,
			nodes:  nodes(rules.IP6Daddr.Is(prefix("2001:db8::/32")), tcp, rules.TProxy{Port: 15006}),
			broken: nodes(rules.IP6Daddr.Is(prefix("2001:db8::/32")), tcp, rules.TProxy{Port: 15006}, rules.TProxy{Port: 15006})},

		{why: "a packet's mark is set", nodes: nodes(rules.MetaMark.SetMasked(0x539, everyBit)), broken: nodes(rules.Assign{To: rules.MetaMark.Selector(), Xor: "\x01"})},
		{why: "some bits of a packet's mark are set", nodes: nodes(rules.MetaMark.SetMasked(0x111, 0xfff)),
			broken: nodes(rules.Assign{To: rules.MetaMark.Selector(), From: rules.MetaMark.Selector(), Mask: "\x00", Xor: addr("0.0.1.17")})},
		{why: "bits of a packet's mark are cleared", nodes: nodes(rules.MetaMark.SetMasked(0, 0xf0)), broken: nodes(rules.Assign{To: rules.SkUID.Selector(), Xor: addr("0.0.0.1")})},
		{why: "a connection's mark is set", nodes: nodes(rules.CTMark.SetMasked(0x539, everyBit)), broken: nodes(rules.Assign{To: rules.CTMark.Selector(), Mask: addr("0.0.0.1"), Xor: addr("0.0.0.1")})},
		{why: "some bits of a connection's mark are set", nodes: nodes(rules.CTMark.SetMasked(0x10, 0x1f)), broken: nodes(rules.Assign{To: rules.CTMark.Selector(), From: rules.CTZone.Selector(), Mask: "\xff\xff", Xor: addr("0.0.0.1")})},
		{why: "a connection's mark is copied to the packet", base: route, nodes: nodes(rules.MetaMark.SetFrom(rules.CTMark)),
			broken: nodes(rules.Assign{To: rules.MetaMark.Selector(), From: rules.SkUID.Selector(), Mask: addr("255.255.255.255"), Xor: addr("0.0.0.0")})},
		{why: "a packet's mark is copied to the connection", nodes: nodes(rules.CTMark.SetFrom(rules.MetaMark)), broken: nodes(rules.Assign{})},
		{why: "some bits of a socket's mark are copied", base: mangle, nodes: nodes(rules.MetaMark.SetFromMasked(rules.SocketMark, 0xff)),
			broken: nodes(rules.SocketMark.SetFromMasked(rules.MetaMark, 0xff))},
		{why: "bits are flipped", nodes: nodes(rules.Assign{To: rules.MetaMark.Selector(), From: rules.MetaMark.Selector(), Mask: addr("255.255.255.255"), Xor: addr("0.0.0.3")}),
			broken: nodes(rules.Assign{To: rules.MetaMark.Selector(), From: rules.MetaMark.Selector(), Xor: addr("0.0.0.3")})},
		{why: "a connection is put into a zone", base: beforeConntrack, nodes: nodes(rules.CTZone.Set(7)), broken: nodes(rules.Assign{To: rules.CTZone.Selector(), Xor: addr("0.0.0.7")})},
		{why: "what a connection sends is put into a zone", base: beforeConntrack, nodes: nodes(rules.UDPDport.Is(53), rules.CTOriginalZone.Set(1)),
			broken: nodes(rules.UDPDport.Is(53), rules.Assign{To: rules.CTOriginalZone.Selector(), Xor: "\x01"})},
		{why: "a SYN alone is refused", base: beforeConntrack, nodes: nodes(rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK), rules.Reject{}),
			broken: nodes(rules.TCPFlags.Is(rules.SYN), rules.Reject{}, rules.Accept())},
		{why: "only TCP is reset", nodes: nodes(tcp, rules.Reject{}), broken: nodes(rules.L4Proto.In(rules.TCP, rules.UDP), rules.Reject{})},
		{why: "a datagram is refused", nodes: nodes(rules.UDPDport.Is(443), rules.Reject{Unreachable: true}), broken: nodes(rules.UDPDport.Is(443), rules.Reject{})},
		{why: "a route chain refuses nothing", base: mangle, nodes: nodes(tcp, rules.Reject{}), broken: nodes(rules.Reject{})},
		{why: "a query goes to an address and port of this host", base: rawRoute,
			nodes:  nodes(rules.IPDaddr.Is(prefix("10.96.0.10/32")), rules.UDPDport.Is(53), rules.UDPDport.Set(15053), rules.IPDaddr.Set(prefix("127.0.53.1/32")), rules.Return()),
			broken: nodes(rules.UDPDport.Is(53), rules.IPDaddr.Set(prefix("127.0.53.1/32")))},
		{why: "an IPv6 query over TCP goes to this host", base: rawRoute,
			nodes:  nodes(rules.IP6Daddr.Is(prefix("2001:db8::53/128")), rules.TCPDport.Is(53), rules.TCPDport.Set(15053), rules.IP6Daddr.Set(prefix("::53:1/128")), rules.Return()),
			broken: nodes(rules.IP6Daddr.Is(prefix("2001:db8::53/128")), rules.TCPDport.Is(53), rules.UDPDport.Set(15053))},
		{why: "an answer comes from the address that was asked", base: rawRoute,
			nodes:  nodes(rules.IPSaddr.Is(prefix("127.0.53.1/32")), rules.UDPSport.Is(15053), rules.UDPSport.Set(53), rules.IPSaddr.Set(prefix("10.96.0.10/32"))),
			broken: nodes(rules.IPSaddr.Is(prefix("127.0.53.1/32")), rules.IP6Saddr.Set(prefix("::1/128")))},
		{why: "an IPv6 answer over TCP comes from the address that was asked", base: rawRoute,
			nodes:  nodes(rules.IP6Saddr.Is(prefix("::53:1/128")), rules.TCPSport.Is(15053), rules.TCPSport.Set(53), rules.IP6Saddr.Set(prefix("2001:db8::53/128"))),
			broken: nodes(rules.IP6Saddr.Is(prefix("::53:1/128")), rules.Assign{To: rules.IP6Saddr.Selector(), Xor: addr("10.0.0.1")})},
		{why: "ports of either protocol are not set", nodes: nodes(tcp, rules.TCPSport.Set(1)), broken: nodes(tcp, rules.ThSport.Set(1))},

		{why: "a copy of a packet goes to a group", nodes: nodes(rules.Log{Group: 900, Snaplen: 65535}, rules.Return()), broken: nodes(rules.Log{Group: 900}, rules.Opaque{Name: "limit"})},
		{why: "a whole copy goes to the first group", nodes: nodes(rules.Log{}), broken: nodes(rules.Return(), rules.Log{})},
		{why: "a ClientHello begins", nodes: nodes(rules.IhRaw(0, 2).Is("\x16\x03"), rules.IhRaw(5, 1).Is("\x01"), rules.Log{Group: 1}), broken: nodes(rules.IhRaw(0, 2).Is("\x16"))},
		{why: "an Initial of QUIC begins", nodes: nodes(rules.UDPDport.Is(443), rules.IhRaw(0, 5).Masked("\xc0\x00\x00\x00\x01", "\xf0\xff\xff\xff\xff")),
			broken: nodes(rules.UDPDport.Is(443), rules.IhRaw(0, 5).Masked("\xc1\x00\x00\x00\x01", "\xf0\xff\xff\xff\xff"))},
		{why: "a record is longer than a packet", nodes: nodes(rules.IhRaw(3, 2).Within(rules.RangeBetween[rules.Raw]("\x04\xb1", "\xff\xff"))),
			broken: nodes(rules.IhRaw(3, 2).Within(rules.RangeBetween[rules.Raw]("\x04\xb1", "\x00\xff")))},
		{why: "bytes are none of a range", nodes: nodes(rules.IhRaw(255, 3).NotWithin(rules.RangeBetween[rules.Raw]("\x00\x00\x01", "\x00\x01\x00"))),
			broken: nodes(rules.IhRaw(256, 3).Is("\x00\x00\x01"))},
		{why: "eight bytes are that", nodes: nodes(rules.IhRaw(1, 8).Is("\x00GET / H")), broken: nodes(rules.IhRaw(1, 9).Is("\x00GET / HT"))},
		{why: "six bytes are not those", nodes: nodes(rules.IhRaw(1, 6).Not("\x00\x00\x00\x00\x00\x00")), broken: nodes(rules.IhRaw(1, 6).In("\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x01"))},
		{why: "seven bytes under a mask are not those", nodes: nodes(negated(rules.IhRaw(0, 7).Masked("\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x0f"))),
			broken: nodes(negated(rules.IhRaw(0, 7).Masked("\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00")))},
		{why: "a TCP header has 20 bytes", nodes: nodes(tcp, rules.ThRaw(12, 1).Masked("\x50", "\xf0"), rules.ThRaw(20, 2).Is("\x16\x03")), broken: nodes(tcp, rules.ThRaw(13, 1).Is("\x02"))},
		{why: "a datagram holds four bytes", nodes: nodes(rules.UDPDport.Is(443), rules.ThRaw(8, 4).Is("\x00\x01\x02\x03")), broken: nodes(rules.ThRaw(2, 2).Is("\x00\x35"))},
		{why: "a destination is remembered", sets: []*rules.Set{seen}, nodes: nodes(remember), broken: nodes(rules.Dynset{Key: remember.Key, Set: "nowhere"})},
		{why: "a destination is remembered anew, for a minute", sets: []*rules.Set{seen},
			nodes:  nodes(rules.TCPFlags.Masked(rules.SYN, rules.SYN|rules.ACK), rules.Dynset{Update: true, Key: remember.Key, Set: "seen", Timeout: time.Minute}, rules.Goto("there")),
			broken: nodes(rules.Dynset{Update: true, Key: remember.Key, Set: "seen", Timeout: time.Millisecond})},
		{why: "IPv6 destinations are remembered by user", sets: []*rules.Set{{Name: "seen", Live: true, Dynamic: true, Expires: true, Counters: true, Size: 10, Key: []rules.DataType{rules.IP6Daddr.Type(), rules.L4Proto.Type(), rules.ThDport.Type(), rules.SkUID.Type()}}},
			nodes:  nodes(rules.Dynset{Update: true, Set: "seen", Key: []rules.Selector{rules.IP6Daddr.Selector(), rules.L4Proto.Selector(), rules.ThDport.Selector(), rules.SkUID.Selector()}}),
			broken: nodes(rules.IPDaddr.Is(prefix("10.0.0.1/32")), rules.Dynset{Update: true, Set: "seen", Key: []rules.Selector{rules.IP6Daddr.Selector(), rules.L4Proto.Selector(), rules.ThDport.Selector(), rules.SkUID.Selector()}})},
		{why: "what an element may take is bounded", sets: []*rules.Set{{Name: "seen", Live: true, Dynamic: true, Quota: 16384, Size: 10, Key: []rules.DataType{rules.SkUID.Type()}}},
			nodes:  nodes(rules.Dynset{Set: "seen", Key: []rules.Selector{rules.SkUID.Selector()}}),
			broken: nodes(rules.Dynset{Set: "seen", Key: []rules.Selector{rules.SkGID.Selector()}})},
		{why: "an element goes without a timeout where the set has none", sets: []*rules.Set{{Name: "seen", Live: true, Dynamic: true, Size: 10, Key: []rules.DataType{rules.MetaMark.Type()}}},
			nodes:  nodes(rules.Dynset{Set: "seen", Key: []rules.Selector{rules.MetaMark.Selector()}}),
			broken: nodes(rules.Dynset{Set: "seen", Key: []rules.Selector{rules.MetaMark.Selector()}, Timeout: time.Minute})},

		{why: "conntrack is kept from a packet", base: beforeConntrack, nodes: nodes(rules.NoTrack{}), broken: nodes(rules.NoTrack{}, rules.Opaque{Name: "log"})},

		{why: "a th port is one of the protocol that is settled", nodes: nodes(tcp, rules.ThDport.Is(53)), broken: nodes(tcp, rules.UDPDport.Is(53))},
		{why: "a th port after a list of protocols is of either", nodes: nodes(rules.L4Proto.In(rules.TCP, rules.UDP), rules.ThDport.Is(53)),
			broken: nodes(rules.L4Proto.In(rules.TCP, rules.UDP), rules.TCPDport.Is(53))},
		{why: "what a later match implies is left out", nodes: nodes(rules.NFProto.Is(rules.IPv4), tcp, rules.IPDaddr.Is(prefix("10.0.0.0/8")), rules.TCPDport.Is(80)),
			broken: nodes(rules.NFProto.Is(rules.IPv6), rules.IPDaddr.Is(prefix("10.0.0.0/8")))},
		{why: "both ports of a connection are compared", nodes: nodes(rules.TCPSport.Is(1024), rules.MetaMark.Is(1), rules.TCPDport.Is(80)), differ: portsApart,
			broken: nodes(rules.TCPSport.Is(1024), rules.UDPDport.Is(80))},
		{why: "neither port of a packet is that", nodes: nodes(rules.UDPSport.Not(53), rules.UDPDport.Not(53)), differ: portsApart,
			broken: nodes(rules.UDPSport.NotIn())},
		{why: "a list of ranges that meet is one range", nodes: nodes(rules.TCPDport.Within(rules.RangeBetween(rules.Port(1), rules.Port(9)), rules.RangeBetween(rules.Port(10), rules.Port(65535)))),
			broken: nodes(rules.TCPDport.Within(rules.RangeBetween(rules.Port(9), rules.Port(1))))},
		{why: "two halves of all addresses are all addresses", nodes: nodes(rules.IPDaddr.In(prefix("0.0.0.0/1"), prefix("128.0.0.0/1"))),
			broken: nodes(rules.IPDaddr.Is(netip.Prefix{}))},
		{why: "an address under a mask of its first bits is a prefix", nodes: nodes(rules.IPDaddr.Masked(prefix("10.1.0.0/32"), prefix("255.255.0.0/32"))),
			broken: nodes(rules.IPDaddr.Masked(prefix("10.1.1.0/32"), prefix("255.255.0.0/32")))},
		{why: "a list of ports may be a map of verdicts", nodes: nodes(rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Elements: []rules.Element{
			{Key: []rules.Range{*ports(80, 80)}, Verdict: rules.Accept()}, {Key: []rules.Range{*ports(81, 81)}, Verdict: rules.Goto("there")},
			{Key: []rules.Range{*ports(82, 90)}, Verdict: rules.Verdict{Kind: rules.ContinueKind}}, {Key: []rules.Range{*ports(91, 65535)}, Verdict: rules.Jump("there")}}}),
			broken: nodes(rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Elements: []rules.Element{
				{Key: []rules.Range{*ports(80, 90)}, Verdict: rules.Accept()}, {Key: []rules.Range{*ports(90, 99)}, Verdict: rules.Drop()}}})},
		{why: "a rule goes on after a map that says nothing of a packet", nodes: nodes(rules.VMap{Key: []rules.Selector{rules.L4Proto.Selector()}, Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.TCP)}, Verdict: rules.Return()}}}, rules.Drop()),
			broken: nodes(rules.VMap{Key: []rules.Selector{rules.L4Proto.Selector()}})},
		{why: "a SYN alone is dropped", nodes: nodes(rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK), rules.Drop()),
			broken: nodes(rules.L4Proto.Is(rules.UDP), rules.TCPFlags.Is(rules.SYN), rules.Drop())},
		{why: "flags are not of a SYN alone, to a port", nodes: nodes(tcp, negated(rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK)), rules.TCPDport.Is(80)),
			broken: nodes(rules.TCPFlags.Masked(rules.SYN|rules.TCPFlag(8), rules.FIN|rules.SYN))},
		{why: "flags have no ranges", nodes: nodes(rules.TCPFlags.In(rules.SYN, rules.ACK)), broken: nodes(rules.TCPFlags.Within(rules.RangeBetween(rules.FIN, rules.ACK)))},
		{why: "a packet whose source has no route back by where it came is dropped", base: mangle,
			nodes:  nodes(rules.FibSaddr.Route().By(rules.FibMark|rules.FibIIf).Is(rules.Missing), rules.Drop()),
			broken: nodes(rules.FibSaddr.Route().By(rules.FibIIf|rules.FibOIf).Is(rules.Missing), rules.Drop())},
		{why: "a forwarded packet's source has a route back", base: forwarded, nodes: nodes(rules.FibSaddr.Route().By(rules.FibIIf).Not(rules.Missing)),
			broken: nodes(rules.FibSaddr.Route().Is(rules.Exists))},
		{why: "the way to a destination, by the mark, is that interface", base: mangle, nodes: nodes(rules.FibDaddr.OIf().By(rules.FibMark).Not(1)),
			broken: nodes(rules.FibDaddr.OIf().By(rules.FibOIf).Is(1))},
		{why: "the way to a destination is not by that interface", base: atInput, nodes: nodes(rules.FibDaddr.OIfName().By(rules.FibIIf).Not("eth0")),
			broken: nodes(rules.FibDaddr.OIfName().By(rules.FibIIf).In("eth0", "lo"))},
		{why: "an address of the interface by which a packet leaves", base: route, nodes: nodes(rules.FibDaddr.Type().By(rules.FibMark|rules.FibOIf).In(rules.Local, rules.Broadcast)),
			broken: nodes(rules.FibDaddr.Type().By(rules.FibIIf).Is(rules.Local))},
		{why: "both families are matched by a list", nodes: nodes(rules.NFProto.In(rules.IPv4, rules.IPv6)),
			broken: nodes(rules.NFProto.In(rules.IPv4, rules.IPv6), rules.IP6Daddr.Is(prefix("::1/128")))},
	}
}

// seen is a dynamic set as remember adds to it.
var (
	seen     = &rules.Set{Name: "seen", Live: true, Dynamic: true, Expires: true, Timeout: time.Hour, Counters: true, Size: 10, Key: []rules.DataType{rules.IPDaddr.Type(), rules.L4Proto.Type(), rules.ThDport.Type()}}
	remember = rules.Dynset{Key: []rules.Selector{rules.IPDaddr.Selector(), rules.L4Proto.Selector(), rules.ThDport.Selector()}, Set: "seen"}
)

func negated(m rules.Match) rules.Match {
	m.Negated = !m.Negated
	return m
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// hookRows are base chains of every type at every hook that has one.
func hookRows() []row {
	rows := []row{
		{why: "a policy may be to drop", base: &rules.Base{Type: rules.FilterType, Hook: rules.Forward, Drop: true}, nodes: nodes(rules.Counter{})},
		{why: "a nat chain follows conntrack", base: &rules.Base{Type: rules.NATType, Hook: rules.Postrouting, Priority: -199}, nodes: nodes(rules.Counter{})},
		{why: "a chain may come first of all", base: &rules.Base{Type: rules.FilterType, Hook: rules.Output, Priority: -1 << 31}, nodes: nodes(rules.Counter{})},
		{why: "a chain may come last of all", base: &rules.Base{Type: rules.FilterType, Hook: rules.Output, Priority: 1<<31 - 1}, nodes: nodes(rules.Counter{})},
		{why: "a chain sees what a device receives", base: &rules.Base{Type: rules.FilterType, Hook: rules.Ingress, Devices: []string{"lo"}}, nodes: nodes(rules.Counter{})},
		{why: "a route chain reroutes what it marks", base: route, nodes: nodes(rules.MetaMark.SetMasked(1, 1))},
	}
	for h := rules.Prerouting; h <= rules.Postrouting; h++ {
		rows = append(rows, row{why: "a filter chain sees " + h.String(), base: &rules.Base{Type: rules.FilterType, Hook: h}, nodes: nodes(rules.Counter{})})
		if h != rules.Forward {
			rows = append(rows, row{why: "a nat chain sees " + h.String(), base: &rules.Base{Type: rules.NATType, Hook: h}, nodes: nodes(rules.Counter{})})
		}
	}
	return rows
}

// values are what a selector of a type is compared with: at least two single
// values, none next to another; ranges; values under masks. Lists of types that
// no set holds stay away.
type values struct {
	singles, ranges []rules.Range
	masked          []rules.Match // of the key that selectorRows puts in
}

func spans[T rules.Value](list ...T) []rules.Range {
	out := make([]rules.Range, len(list))
	for i, v := range list {
		out[i] = rules.RangeOf(v)
	}
	return out
}

func between[T rules.Value](ends ...T) []rules.Range {
	var out []rules.Range
	for pair := range slices.Chunk(ends, 2) {
		out = append(out, rules.RangeBetween(pair[0], pair[1]))
	}
	return out
}

func prefixes(list ...string) []rules.Range {
	var out []rules.Range
	for _, p := range list {
		out = append(out, rules.RangeOf(prefix(p)))
	}
	return out
}

var valuesOf = map[rules.DataType]values{
	rules.TCPDport.Type(): {singles: spans[rules.Port](0, 53, 65535), ranges: between[rules.Port](1000, 2000, 0, 1, 60000, 65535, 0, 65535)},
	rules.L4Proto.Type():  {singles: spans(rules.TCP, rules.UDP, rules.ICMPv6, 255), ranges: between[rules.Proto](6, 17, 200, 255)},
	rules.NFProto.Type():  {singles: spans(rules.IPv4, rules.IPv6)},
	rules.IPDaddr.Type(): {singles: prefixes("10.0.0.1/32", "127.0.0.1/32", "255.255.255.255/32"),
		ranges: append(prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.1.128/25", "0.0.0.0/0", "255.255.255.0/24"), between(prefix("10.0.0.3/32"), prefix("10.0.0.9/32"))...),
		masked: []rules.Match{rules.IPDaddr.Masked(prefix("10.0.3.0/32"), prefix("255.0.255.0/32")), rules.IPDaddr.Masked(prefix("0.0.0.0/32"), prefix("0.0.0.1/32"))}},
	rules.IP6Daddr.Type(): {singles: prefixes("::/128", "::1/128", "2001:db8::1/128"),
		ranges: append(prefixes("2001:db8::/32", "fe80::/10", "::/0", "ffff::/16"), between(prefix("::3/128"), prefix("::9/128"))...),
		masked: []rules.Match{rules.IP6Daddr.Masked(prefix("::1/128"), prefix("ffff::1/128"))}},
	rules.IIfName.Type(): {singles: spans[rules.IfName]("lo", "eth0", "abcdefghijklmno", "é-0.1"), ranges: spans[rules.IfName]("veth*", "a*", "bcdefghijklmno*")},
	rules.IIf.Type():     {singles: spans[rules.IfIndex](0, 1, 1<<31-1), ranges: between[rules.IfIndex](2, 9, 100, 1<<31-1)},
	rules.MetaMark.Type(): {singles: spans[rules.Mark](0, 0x539, ^rules.Mark(0)), ranges: between[rules.Mark](0x10, 0x1f, 0xf0, ^rules.Mark(0), 0, ^rules.Mark(0)),
		masked: []rules.Match{rules.MetaMark.Masked(0x530, 0xff0), rules.MetaMark.Masked(0, 0xf), rules.MetaMark.AnyOf(0x3), rules.MetaMark.Masked(1, ^rules.Mark(0))}},
	rules.SkUID.Type(): {singles: spans[rules.UID](0, 1337, ^rules.UID(0)), ranges: between[rules.UID](1000, 2000, 0xfffffff0, ^rules.UID(0))},
	rules.SkGID.Type(): {singles: spans[rules.GID](0, 1337, ^rules.GID(0)), ranges: between[rules.GID](1000, 2000, 0xfffffff0, ^rules.GID(0))},
	rules.CTStates.Type(): {singles: spans(rules.CTEstablished, rules.CTNew, rules.CTRelated|rules.CTUntracked, rules.CTInvalid),
		masked: []rules.Match{rules.CTStates.AnyOf(rules.CTEstablished | rules.CTRelated), rules.CTStates.Masked(rules.CTNew, rules.CTNew|rules.CTRelated),
			rules.CTStates.Masked(0, rules.CTInvalid), rules.CTStates.Masked(0, rules.CTNew|rules.CTUntracked)}},
	rules.FibDaddr.Type().Type(): {singles: spans(rules.Unicast, rules.Local, rules.Broadcast, rules.Multicast)},
	rules.CTZone.Type():          {singles: spans[rules.Zone](0, 7, 65535), ranges: between[rules.Zone](1, 9, 9, 65535)},
	rules.TCPFlags.Type(): {singles: spans(rules.SYN, rules.SYN|rules.ACK, 0, ^rules.TCPFlag(0)),
		masked: []rules.Match{rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK), rules.TCPFlags.Masked(rules.SYN, rules.SYN),
			rules.TCPFlags.Masked(0, rules.FIN|rules.RST), rules.TCPFlags.AnyOf(rules.FIN | rules.SYN), rules.TCPFlags.AnyOf(rules.SYN)}},
	rules.IhRaw(0, 1).Type(): {singles: spans[rules.Raw]("\x00", "\x16", "\xff"), ranges: between[rules.Raw]("\x01", "\x10", "\x00", "\xff"),
		masked: []rules.Match{rules.IhRaw(0, 1).Masked("\xc0", "\xf0"), rules.IhRaw(0, 1).AnyOf("\x03")}},
	rules.SocketTransparent.Type(): {singles: spans(false, true)},
	rules.FibSaddr.Route().Type():  {singles: spans(rules.Missing, rules.Exists)},
	rules.SocketCgroup(1).Type():   {singles: spans[rules.CgroupID](1, 77, ^rules.CgroupID(0))},
}

const portsApart = "nft keeps the mask of all ones without which it would join the two comparisons"

const cgroupsAreNumbers = "nft wants the path of a cgroup, and looks up its id when it loads"

// selectorRows are the ways of comparing one selector.
func selectorRows(t *testing.T, s rules.Selector) []row {
	d := s.Type()
	v := valuesOf[d]
	if len(v.singles) < 2 {
		t.Fatalf("%s: there are no values of its type here", s)
	}
	var rows []row
	key, differ := []rules.Selector{s}, ""
	add := func(why string, m rules.Match, sets ...*rules.Set) {
		m.Key = key
		for _, negated := range []bool{false, true} {
			if negated {
				m.Negated = !m.Negated
				why += ", or not"
			}
			broken := m
			if m.Set != "" {
				broken.Set = "nowhere"
			} else {
				broken.Elements = slices.Clone(m.Elements)
				last := len(broken.Elements) - 1
				broken.Elements[last] = rules.Element{Key: []rules.Range{{Lo: broken.Elements[last].Key[0].Lo, Hi: broken.Elements[last].Key[0].Hi + "\x00"}}}
			}
			r := row{why: s.String() + " " + why, sets: sets, nodes: nodes(m), broken: nodes(broken), differ: differ}
			if d == rules.SocketCgroup(1).Type() {
				r.loads = cgroupsAreNumbers
			}
			rows = append(rows, r)
		}
	}
	addMap := func(why string, m rules.VMap, sets ...*rules.Set) {
		m.Key = key
		broken := rules.VMap{Key: key, Map: "nowhere"}
		r := row{why: s.String() + " " + why, sets: sets, nodes: nodes(m), broken: nodes(broken)}
		if d == rules.SocketCgroup(1).Type() {
			r.loads = cgroupsAreNumbers
		}
		rows = append(rows, r)
	}
	for _, r := range slices.Concat(v.singles, v.ranges) {
		add("is "+strings.ReplaceAll(d.FormatRange(r), `"`, ""), rules.Match{Elements: oneRange(r)})
	}
	for _, m := range v.masked {
		add("under a mask", m)
	}
	if d == rules.CTZone.Type() || d == rules.SocketTransparent.Type() || d == rules.FibSaddr.Route().Type() || d == rules.IhRaw(0, 1).Type() ||
		s == rules.FibSaddr.OIfName().Selector() || s == rules.FibDaddr.OIfName().Selector() {
		return rows // no set can hold them
	}
	add("is in a list", rules.Match{Elements: elementsOf(v.singles)})
	plain := &rules.Set{Name: "plain", Key: []rules.DataType{d}, Elements: elementsOf(v.singles)}
	add("is in a set", rules.Match{Set: "plain"}, plain)
	addMap("decides", rules.VMap{Elements: decided(elementsOf(v.singles))})
	addMap("is in a map", rules.VMap{Map: "verdicts"}, &rules.Set{Name: "verdicts", Key: []rules.DataType{d}, Verdicts: true, Elements: decided(elementsOf(v.singles))})
	if len(v.ranges) > 0 {
		ranges := disjoint(v.ranges)
		add("is in a list of ranges", rules.Match{Elements: elementsOf(ranges)})
		interval := &rules.Set{Name: "ranges", Key: []rules.DataType{d}, Interval: true, Elements: elementsOf(ranges)}
		add("is in an interval set", rules.Match{Set: "ranges"}, interval)
		addMap("decides by range", rules.VMap{Elements: decided(elementsOf(ranges))})
		addMap("is in an interval map", rules.VMap{Map: "verdicts"}, &rules.Set{Name: "verdicts", Key: []rules.DataType{d}, Interval: true, Verdicts: true, Elements: decided(elementsOf(ranges))})
		for _, m := range v.masked[:min(len(v.masked), 1)] {
			add("under a mask is in a set", rules.Match{Mask: m.Mask, Set: "plain"}, plain)
			add("under a mask is in an interval set", rules.Match{Mask: m.Mask, Set: "ranges"}, interval)
			zero := rules.Bits(make([]byte, d.Len()))
			add("under a mask is in a list", rules.Match{Mask: m.Mask, Elements: elementsOf([]rules.Range{{Lo: zero, Hi: zero}, {Lo: m.Mask, Hi: m.Mask}})})
		}
	}
	if d == rules.TCPFlags.Type() {
		return rows // nor can any hold it beside another
	}
	// A concatenation of the selector and a mark, either way round.
	mark := rules.MetaMark.Selector()
	for _, parts := range [][]rules.Selector{{s, mark}, {mark, s}} {
		for _, interval := range []bool{false, true} {
			key = parts
			set := &rules.Set{Name: "concat", Interval: interval, Key: []rules.DataType{parts[0].Type(), parts[1].Type()}}
			for i, r := range v.singles {
				e := rules.Element{Key: []rules.Range{r, rules.RangeOf(rules.Mark(i))}}
				if interval && i < len(v.ranges) {
					e.Key[0], e.Key[1] = v.ranges[i], rules.RangeBetween(rules.Mark(0x100*i), rules.Mark(0x100*i+5))
				}
				if parts[0] == mark {
					slices.Reverse(e.Key)
				}
				set.Elements = append(set.Elements, e)
			}
			differ = ""
			if interval && d.Len() == 1 {
				differ = "nft 1.0.6 turns a single byte, which changes nothing"
			}
			add("and a mark are in a set", rules.Match{Set: "concat"}, set)
		}
	}
	return rows
}

func elementsOf(ranges []rules.Range) []rules.Element {
	out := make([]rules.Element, len(ranges))
	for i, r := range ranges {
		out[i].Key = []rules.Range{r}
	}
	return out
}

func decided(elements []rules.Element) []rules.Element {
	for i := range elements {
		elements[i].Verdict = []rules.Verdict{rules.Accept(), rules.Jump("there"), rules.Drop(), rules.Return()}[i%4]
	}
	return elements
}

// disjoint leaves out ranges that overlap one before.
func disjoint(ranges []rules.Range) []rules.Range {
	var out []rules.Range
	for _, r := range ranges {
		if !slices.ContainsFunc(out, func(o rules.Range) bool { return r.Lo <= o.Hi && o.Lo <= r.Hi }) {
			out = append(out, r)
		}
	}
	return out
}

// setRows are sets of every type with every flag.
func setRows() []row {
	var rows []row
	for _, d := range setTypes() {
		key := []rules.DataType{d}
		v := valuesOf[d]
		elements := elementsOf(v.singles)
		elements[0].Comment = "why it is there"
		loads := ""
		if d == rules.SocketCgroup(1).Type() {
			loads = cgroupsAreNumbers
		}
		timed := slices.Clone(elements)
		timed[1].Timeout = 25*time.Hour + 90*time.Second
		rows = append(rows,
			row{why: "a set with comments", loads: loads, sets: []*rules.Set{{Name: "s", Key: key, Elements: elements}}},
			row{why: "a set of a size", loads: loads, sets: []*rules.Set{{Name: "s", Key: key, Size: 4, Elements: elements}}},
			row{why: "a set that counts", loads: loads, sets: []*rules.Set{{Name: "s", Key: key, Counters: true, Elements: elements}}},
			row{why: "a live set whose elements expire", loads: loads, sets: []*rules.Set{{Name: "s", Key: key, Live: true, Expires: true, Timeout: time.Hour, Elements: timed}}},
			row{why: "a live set that the kernel sweeps once an hour", loads: loads, sets: []*rules.Set{{Name: "s", Key: key, Live: true, Expires: true, Sweep: time.Hour, Elements: timed}}},
			row{why: "a set that rules add to", loads: loads, sets: []*rules.Set{{Name: "s", Key: key, Live: true, Dynamic: true, Counters: true, Size: 65535, Elements: elements}}},
		)
		if len(v.ranges) > 0 {
			ranges := elementsOf(disjoint(v.ranges))
			ranges[0].Comment = "why it is there"
			rows = append(rows, row{why: "an interval set with comments", sets: []*rules.Set{{Name: "s", Key: key, Interval: true, Elements: ranges}}})
		}
	}
	return rows
}
