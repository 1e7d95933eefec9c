// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

var update = flag.Bool("update", false, "write the golden files anew")

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = prefix(p)
	}
	return out
}

func ports(lo, hi rules.Port) rules.Range { return rules.RangeBetween(lo, hi) }

func types(list ...rules.DataType) []rules.DataType { return list }

func selectors(list ...rules.Selector) []rules.Selector { return list }

const everyBit = ^rules.Mark(0)

func base(typ rules.ChainType, h rules.Hook, priority int32) *rules.Base {
	return &rules.Base{Type: typ, Hook: h, Priority: priority}
}

// TestPrint compares what is printed with the golden files, which package nft
// has nft load.
func TestPrint(t *testing.T) {
	for name, state := range map[string]rules.State{
		"nothing":    {},
		"empty":      {Table: &rules.Table{Name: "weir"}},
		"sets":       {Table: setsTable()},
		"rules":      {Table: rulesTable()},
		"boundaries": {Table: boundariesTable()},
		"routing":    routingState(),
	} {
		t.Run(name, func(t *testing.T) {
			if err := state.Check(); err != nil {
				t.Error(err)
			}
			var got bytes.Buffer
			if err := state.Print(&got); err != nil {
				t.Fatal(err)
			}
			if got.String() != state.String() {
				t.Error("Print and String differ")
			}
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s (go test ./rules -update writes it anew) has\n%s\nprinted is\n%s", file, want, got.Bytes())
			}
		})
	}
}

func setsTable() *rules.Table {
	t := &rules.Table{Name: "weir"}
	rules.TCPDport.AddSet(t, "one_port", ports(80, 80))
	rules.TCPDport.AddSet(t, "no_port")
	rules.SkUID.AddSet(t, "uids", rules.RangeOf(rules.UID(1337)), rules.RangeOf(rules.UID(0)))
	rules.SkUID.AddSet(t, "uid_ranges", rules.RangeBetween(rules.UID(1000), rules.UID(2000)))
	rules.OIfName.AddSet(t, "names", rules.RangeOf(rules.IfName("eth0")))
	rules.OIfName.AddSet(t, "wildcards", rules.RangeOf(rules.IfName("eth1*")), rules.RangeOf(rules.IfName("eth0*")))
	t.AddPrefixSets("excluded", prefixes("10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32")...)
	t.Sets = append(t.Sets,
		&rules.Set{Name: "commented", Key: types(rules.MetaMark.Type()), Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.Mark(2))}, Comment: "100% é; #"}, {Key: []rules.Range{rules.RangeOf(rules.Mark(1))}, Comment: "the first"}}},
		&rules.Set{Name: "seen", Key: types(rules.IPDaddr.Type(), rules.TCPDport.Type()), Live: true, Dynamic: true, Expires: true, Counters: true, Timeout: 26*time.Hour + 90*time.Second, Size: 1000},
		&rules.Set{Name: "timed", Key: types(rules.MetaMark.Type()), Live: true, Expires: true, Sweep: time.Hour, Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.Mark(1))}, Timeout: time.Minute, Expires: time.Second, Counter: rules.Counter{Packets: 7}}}},
		&rules.Set{Name: "by_port", Key: types(rules.TCPDport.Type()), Interval: true, Verdicts: true, Elements: []rules.Element{
			{Key: []rules.Range{ports(1024, 65535)}, Verdict: rules.Goto("there"), Comment: "high"}, {Key: []rules.Range{ports(1, 1023)}, Verdict: rules.Drop()}}},
		&rules.Set{Name: "ranges", Key: types(rules.IPDaddr.Type(), rules.TCPDport.Type(), rules.MetaMark.Type()), Interval: true, Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(prefix("10.0.0.0/8")), ports(80, 90), rules.RangeOf(rules.Mark(7))}}}},
		&rules.Set{Name: "kinds", Key: types(rules.L4Proto.Type(), rules.NFProto.Type(), rules.FibDaddr.Type().Type(), rules.CTStates.Type(), rules.IIf.Type()), Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.TCP), rules.RangeOf(rules.IPv6), rules.RangeOf(rules.Local), rules.RangeOf(rules.CTNew | rules.CTEstablished), rules.RangeOf(rules.IfIndex(7))}}}},
	)
	t.Chains = append(t.Chains, &rules.Chain{Name: "there"})
	return t
}

func rulesTable() *rules.Table {
	t := &rules.Table{Name: "weir"}
	marks := rules.MetaMark.AddSet(t, "marks", rules.RangeOf(rules.Mark(0x539)))
	excluded := t.AddPrefixSets("excluded", prefixes("10.0.0.0/8", "2001:db8::/32")...)
	t.Sets = append(t.Sets,
		&rules.Set{Name: "sockets", Key: types(rules.IPDaddr.Type(), rules.TCPDport.Type())},
		&rules.Set{Name: "by_port", Key: types(rules.TCPDport.Type()), Verdicts: true, Elements: []rules.Element{{Key: []rules.Range{ports(80, 80)}, Verdict: rules.Jump("there")}}})
	out := &rules.Chain{Name: "output", Base: base(rules.NATType, rules.Output, rules.PriorityDstNAT)}
	out.Add("an app that calls its own service goes through the inbound listener",
		rules.OIfName.Is("lo"), rules.IPDaddr.Not(prefix("127.0.0.1/32")), rules.TCPDport.NotIn(53, 15008), rules.SkUID.Is(1337), rules.Jump("there"))
	for _, r := range t.Expand(rules.Rule{Reason: "excluded destinations are left alone", Nodes: []rules.Node{rules.Daddr.InSet(excluded), rules.Counter{Packets: 7}, rules.Return()}}, rules.IPv4, rules.IPv6) {
		out.Add(r.Reason, r.Nodes...)
	}
	out.Add("marked packets pass", rules.MetaMark.InSet(marks), rules.CTMark.NotInSet(marks), rules.Accept())
	out.Add("", rules.VMap{Key: selectors(rules.TCPDport.Selector()), Map: "by_port"})
	out.Add("", rules.VMap{Key: selectors(rules.L4Proto.Selector()), Elements: []rules.Element{
		{Key: []rules.Range{rules.RangeOf(rules.UDP)}, Verdict: rules.Return()}, {Key: []rules.Range{rules.RangeOf(rules.TCP)}, Verdict: rules.Verdict{Kind: rules.ContinueKind}}}})
	out.Add("everything else goes to the proxy", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	r := ports(15053, 15060)
	out.Add("names go to one of several", rules.UDPDport.Is(53), rules.Redirect{Ports: &r})
	out.Add("", rules.Redirect{})
	in := &rules.Chain{Name: "prerouting", Base: base(rules.FilterType, rules.Prerouting, rules.PriorityMangle)}
	in.Base.Drop = true
	in.Add("", rules.SocketTransparent.Is(true), rules.MetaMark.SetMasked(0x539, 0xfff), rules.CTMark.SetMasked(7, everyBit), rules.Accept())
	in.Add("", rules.SocketMark.Is(7), rules.MetaMark.SetFrom(rules.CTMark), rules.CTMark.SetFromMasked(rules.MetaMark, 0xff))
	in.Add("", rules.Assign{To: rules.MetaMark.Selector(), From: rules.MetaMark.Selector(), Mask: "\xff\xff\xff\xff", Xor: "\x00\x00\x00\x01"})
	in.Add("", rules.L4Proto.In(rules.TCP, rules.UDP), rules.ThDport.Is(53), rules.TProxy{Port: 15053})
	in.Add("", rules.L4Proto.Is(rules.TCP), rules.TProxy{Family: rules.IPv4, Addr: rules.Bits("\x7f\x00\x00\x01")})
	in.Add("", rules.L4Proto.Is(rules.TCP), rules.TProxy{Family: rules.IPv6, Addr: rules.Bits(prefix("::1/128").Addr().AsSlice()), Port: 15006})
	in.Add("", rules.IP6Daddr.Is(prefix("::1/128")), rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: 15006})
	in.Add("", rules.CTStates.Is(rules.CTNew), rules.Drop())
	in.Add("", rules.CTStates.Not(rules.CTEstablished|rules.CTRelated), rules.Drop())
	in.Add("", rules.CTStates.In(rules.CTNew, rules.CTEstablished|rules.CTRelated), rules.Drop())
	in.Add("", rules.CTStates.AnyOf(rules.CTEstablished|rules.CTRelated), rules.Drop())
	in.Add("", rules.CTStates.Masked(0, rules.CTInvalid|rules.CTUntracked), rules.Drop())
	in.Add("", rules.MetaMark.AnyOf(0xf), rules.CTMark.Masked(0x10, 0xf0), rules.Drop())
	in.Add("", rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK), rules.Drop())
	in.Add("", rules.TCPFlags.Not(rules.SYN|rules.ACK), rules.TCPFlags.AnyOf(rules.FIN|rules.RST), rules.TCPFlags.In(rules.SYN, rules.FIN|rules.ACK))
	in.Add("", rules.FibSaddr.Type().Is(rules.Local), rules.FibDaddr.Type().In(rules.Broadcast, rules.Multicast), rules.Goto("there"))
	in.Add("", rules.Match{Set: "sockets", Key: []rules.Selector{rules.IPDaddr.Selector(), rules.TCPDport.Selector()}}, rules.Return())
	in.Add("", rules.UDPSport.Not(53), rules.UDPDport.Not(53), rules.Return())
	raw := &rules.Chain{Name: "raw", Base: base(rules.FilterType, rules.Prerouting, rules.PriorityRaw)}
	raw.Add("", rules.UDPDport.Is(53), rules.CTZone.Set(7))
	raw.Add("", rules.CTZone.Is(7), rules.NoTrack{})
	device := &rules.Chain{Name: "of_devices", Base: base(rules.FilterType, rules.Ingress, 0)}
	device.Base.Devices = []string{"lo"}
	there := &rules.Chain{Name: "there"}
	there.Add("", rules.IIf.Is(0), rules.IIfName.Is("veth*"), rules.SkGID.Within(rules.RangeBetween(rules.GID(1), rules.GID(9))), rules.L4Proto.Within(rules.RangeBetween(rules.TCP, rules.UDP)), rules.Counter{})
	post := &rules.Chain{Name: "postrouting", Base: base(rules.NATType, rules.Postrouting, rules.PrioritySrcNAT)}
	out.Add("", rules.NFProto.Is(rules.IPv4), rules.DNAT{To: netip.MustParseAddr("10.96.0.10")})
	out.Add("", rules.NFProto.Is(rules.IPv6), rules.UDPDport.Is(53), rules.DNAT{To: netip.MustParseAddr("fd00::1"), Port: 8600})
	post.Add("", rules.IPDaddr.Is(prefix("10.0.0.1/32")), rules.SNAT{To: netip.MustParseAddr("169.254.7.127")})
	post.Add("", rules.NFProto.Is(rules.IPv6), rules.SNAT{To: netip.MustParseAddr("fd00::1")})
	t.Chains = []*rules.Chain{out, in, raw, device, there, post}
	return t
}

func boundariesTable() *rules.Table {
	t := &rules.Table{Name: "weir"}
	rules.TCPDport.AddSet(t, "every_port", ports(0, 65535))
	rules.TCPDport.AddSet(t, "last_port", ports(65535, 65535))
	rules.IPDaddr.AddSet(t, "halves", rules.RangeOf(prefix("128.0.0.0/1")), rules.RangeOf(prefix("0.0.0.0/1")))
	rules.IP6Daddr.AddSet(t, "every_address", rules.RangeOf(prefix("::/0")))
	rules.IP6Daddr.AddSet(t, "last_address", rules.RangeOf(prefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")))
	rules.MetaMark.AddSet(t, "marks", rules.RangeBetween(rules.Mark(1), everyBit))
	rules.TCPDport.AddSet(t, "neighbours", ports(81, 90), ports(80, 80), ports(91, 100))
	c := &rules.Chain{Name: "c"}
	c.Add("", rules.IPDaddr.Is(prefix("0.0.0.0/0")))
	c.Add("", rules.IP6Daddr.Is(prefix("::/0")))
	c.Add("", rules.IPDaddr.Not(prefix("0.0.0.0/0")))
	c.Add("", rules.TCPDport.Within(ports(0, 65535)))
	c.Add("", rules.TCPDport.Within(ports(1, 9), ports(10, 65535)))
	c.Add("", rules.TCPDport.In(80, 81))
	c.Add("", rules.SkUID.Is(1<<32-1))
	c.Add("", rules.IIf.Within(rules.RangeBetween(rules.IfIndex(1), rules.IfIndex(1<<31-1))), rules.OIf.Is(1))
	c.Add("", rules.IIfName.Is("abcdefghijklmno"))
	c.Add("", rules.IIfName.Is("abcdefghijklmn*"))
	c.Add("", rules.IPDaddr.In(prefix("255.255.255.255/32"), prefix("0.0.0.0/32")))
	c.Add(strings.Repeat("x", 128), rules.Counter{})
	t.Chains = append(t.Chains, c)
	return t
}

func routingState() rules.State {
	return rules.State{
		PolicyRules: []rules.PolicyRule{{Family: rules.IPv6, Priority: 2, Mark: 1, Mask: 0xfff, Table: 133}, {Family: rules.IPv4, Priority: 2, Mark: 1, Mask: 0xfff, Table: 133}},
		Routes: []rules.Route{{Family: rules.IPv6, Table: 133, Dst: prefix("::/0")}, {Family: rules.IPv4, Table: 133, Dst: prefix("0.0.0.0/0")},
			{Family: rules.IPv4, Table: 133, Dst: prefix("10.1.2.3/8")}},
		Addresses: prefixes("::6/128", "127.0.0.6/32"),
		Sysctls:   []rules.Sysctl{{Name: "net/ipv4/conf/all/route_localnet", Value: "1", Why: "packets from 127.0.0.6 are to be routed"}},
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestPrintTellsOfAFailedWrite(t *testing.T) {
	if err := routingState().Print(failing{}); err == nil || err.Error() != "the disk is full" {
		t.Errorf("the error is %v", err)
	}
}

func TestAbridged(t *testing.T) {
	state := rules.State{Table: setsTable()}
	if got := state.Abridged(100); got != state.String() {
		t.Errorf("sets that are short enough are cut: %s", got)
	}
	got := state.Abridged(1)
	if !strings.Contains(got, "set uids {\n\t\ttype uid\n\t\t# 2 elements\n\t}") || !strings.Contains(got, "elements = {\n\t\t\t80\n") {
		t.Errorf("abridged to one element a set: %s", got)
	}
}

// TestWhatTheModelDoesNotKnowIsShown prints what only a lifted state holds.
func TestWhatTheModelDoesNotKnowIsShown(t *testing.T) {
	state := rules.State{Table: &rules.Table{
		Name:   "weir",
		Others: []string{"object named"},
		Sets:   []*rules.Set{{Name: "s", Others: "key of type 9 and 6 bytes"}},
		Chains: []*rules.Chain{{Name: "c", Rules: []rules.Rule{{Reason: "why", Nodes: []rules.Node{rules.Opaque{Name: "limit", Raw: "x"}}}}}},
	}}
	for _, want := range []string{"<unknown: object named>", "<unknown: key of type 9 and 6 bytes>", `<unknown: limit> comment "why"`} {
		if text := state.String(); !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
