// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// TestListReadsAsPrinted applies a table with every type of set and has nft list
// it: names, marks, users, interfaces, ranges, timeouts and comments must read
// as we print them. Where nft spells something otherwise, it is in spellings.
func TestListReadsAsPrinted(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	want := listed().Normal()
	if _, err := c.Session("weir", "test").Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	list := nftList(t, "table", "inet", "weir")
	for i, s := range spellings {
		if !s.pattern.MatchString(respelt(list, spellings[:i])) {
			t.Errorf("%s: nothing in the listing reads %s", s.why, s.pattern)
		}
	}
	got := lines(list, spellings)
	for name, text := range lines(want.String(), printed) {
		if got[name] != text {
			t.Errorf("%s\nnft lists   %s\nwe print    %s", name, got[name], text)
		}
		delete(got, name)
	}
	delete(got, "set tag")
	for name, text := range got {
		t.Errorf("nft lists %s, which we do not print:\n%s", name, text)
	}
}

// spelling is one difference between nft's listing and our text, which is
// allowed.
type spelling struct {
	why     string
	pattern *regexp.Regexp
	instead string
}

func spelt(why, pattern, instead string) spelling {
	return spelling{why, regexp.MustCompile(pattern), instead}
}

// spellings turn nft's listing into our text.
var spellings = []spelling{
	spelt("counts are told", `counter packets \d+ bytes \d+`, "counter"),
	spelt("elements that expire tell how soon", ` expires [0-9a-z]+`, ""),
	spelt("the elements of a set that counts have counters", ` counter(,| })`, "$1"),
	spelt("priorities have names", `priority raw`, "priority -300"),
	spelt("priorities have names", `priority mangle`, "priority -150"),
	spelt("priorities have names", `priority filter`, "priority 0"),
	spelt("priorities have names", `priority dstnat`, "priority -100"),
	spelt("one device is not a list", `device "lo"`, `devices = { "lo" }`),
	spelt("a range of marks that are a prefix is listed as one", `0x00000010/28`, `0x00000010-0x0000001f`),
	spelt("an interface that there is has a name", `\b([io]if )(!= )?"lo"`, `${1}${2}1`),
	spelt("iif and oif need no meta", `\b([io]if) `, `meta $1 `),
	spelt("none of these states", `ct state ! (\S+),(\S+)`, `ct state & ($1 | $2) == 0x0`),
	spelt("a lookup under a mask has no operator", `(& \S+) @`, `$1 == @`),
	spelt("after a mask and an or, nft 1.0.6 lists another mask", `& 0xfffff111 \| 0x00000111`, `& 0xfffff000 | 0x00000111`),
}

// printed turns our text into nft's.
var printed = []spelling{
	spelt("a timeout needs no flag", `flags timeout\n\s*timeout`, `timeout`),
}

var listOfElements = regexp.MustCompile(`elements = { (.*) } }$`)

func respelt(text string, spellings []spelling) string {
	for _, s := range spellings {
		text = s.pattern.ReplaceAllString(text, s.instead)
	}
	return text
}

// lines are the sets and chains of a table by name, the elements of each in one
// line and all in nft's order.
func lines(text string, spellings []spelling) map[string]string {
	text = respelt(text, spellings)
	out := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		switch {
		case strings.HasPrefix(line, "table "), strings.HasPrefix(line, "delete table "), line == "":
		case (strings.HasPrefix(line, "set ") || strings.HasPrefix(line, "map ") || strings.HasPrefix(line, "chain ")) && strings.HasSuffix(line, "{"):
			name = strings.TrimSuffix(line, " {")
		case line == "}" && !strings.HasSuffix(out[name], ","):
			out[name] += " }"
		default:
			out[name] += " " + line
		}
	}
	for name, text := range out {
		if m := listOfElements.FindStringSubmatch(text); m != nil { // interface names come in another order
			words := strings.Split(m[1], ", ")
			slices.Sort(words)
			out[name] = strings.Replace(text, m[1], strings.Join(words, ", "), 1)
		}
	}
	return out
}

func listed() rules.State {
	t := &rules.Table{Name: "weir"}
	set := func(s rules.Set, ranges ...[]rules.Range) {
		for _, key := range ranges {
			s.Elements = append(s.Elements, rules.Element{Key: key})
		}
		t.Sets = append(t.Sets, &s)
	}
	one := func(r ...rules.Range) []rules.Range { return r }
	types := func(d ...rules.DataType) []rules.DataType { return d }
	set(rules.Set{Name: "marks", Key: types(rules.MetaMark.Type())}, one(rules.RangeOf(rules.Mark(0x539))), one(rules.RangeOf(rules.Mark(0x7))))
	set(rules.Set{Name: "mark_ranges", Key: types(rules.MetaMark.Type()), Interval: true}, one(rules.RangeBetween(rules.Mark(0x10), rules.Mark(0x1f))), one(rules.RangeBetween(rules.Mark(0xf0), ^rules.Mark(0))))
	set(rules.Set{Name: "users", Key: types(rules.SkUID.Type())}, one(rules.RangeOf(rules.UID(0))), one(rules.RangeOf(rules.UID(1337))))
	set(rules.Set{Name: "user_ranges", Key: types(rules.SkUID.Type()), Interval: true}, one(rules.RangeBetween(rules.UID(1000), rules.UID(2000))), one(rules.RangeOf(rules.UID(1337000))))
	set(rules.Set{Name: "groups", Key: types(rules.SkGID.Type())}, one(rules.RangeOf(rules.GID(1337))))
	set(rules.Set{Name: "group_ranges", Key: types(rules.SkGID.Type()), Interval: true}, one(rules.RangeBetween(rules.GID(5), ^rules.GID(0))))
	set(rules.Set{Name: "interfaces", Key: types(rules.IIfName.Type())}, one(rules.RangeOf(rules.IfName("eth0"))), one(rules.RangeOf(rules.IfName("abcdefghijklmno"))))
	set(rules.Set{Name: "wildcards", Key: types(rules.IIfName.Type()), Interval: true}, one(rules.RangeOf(rules.IfName("eth0*"))), one(rules.RangeOf(rules.IfName("eth1*"))), one(rules.RangeOf(rules.IfName("veth*"))))
	set(rules.Set{Name: "indices", Key: types(rules.IIf.Type())}, one(rules.RangeOf(rules.IfIndex(77))))
	set(rules.Set{Name: "ports", Key: types(rules.TCPDport.Type()), Interval: true}, one(rules.RangeBetween(rules.Port(80), rules.Port(90))), one(rules.RangeOf(rules.Port(443))), one(rules.RangeBetween(rules.Port(60000), rules.Port(65535))))
	set(rules.Set{Name: "prefixes", Key: types(rules.IPDaddr.Type()), Interval: true}, one(rules.RangeOf(prefix("10.0.0.0/8"))), one(rules.RangeOf(prefix("192.0.2.1/32"))), one(rules.RangeOf(prefix("255.0.0.0/8"))))
	set(rules.Set{Name: "everything", Key: types(rules.IPDaddr.Type()), Interval: true}, one(rules.RangeOf(prefix("0.0.0.0/0"))))
	set(rules.Set{Name: "prefixes6", Key: types(rules.IP6Daddr.Type()), Interval: true}, one(rules.RangeOf(prefix("2001:db8::/32"))), one(rules.RangeOf(prefix("fe80::/10"))))
	set(rules.Set{Name: "everything6", Key: types(rules.IP6Daddr.Type()), Interval: true}, one(rules.RangeOf(prefix("::/0"))))
	set(rules.Set{Name: "protocols", Key: types(rules.L4Proto.Type())}, one(rules.RangeOf(rules.TCP)), one(rules.RangeOf(rules.UDP)))
	set(rules.Set{Name: "families", Key: types(rules.NFProto.Type())}, one(rules.RangeOf(rules.IPv6)))
	set(rules.Set{Name: "states", Key: types(rules.CTStates.Type())}, one(rules.RangeOf(rules.CTNew)), one(rules.RangeOf(rules.CTEstablished|rules.CTRelated)))
	set(rules.Set{Name: "kinds", Key: types(rules.FibDaddr.Type().Type())}, one(rules.RangeOf(rules.Local)), one(rules.RangeOf(rules.Multicast)))
	set(rules.Set{Name: "sockets", Key: types(rules.IPDaddr.Type(), rules.TCPDport.Type())}, one(rules.RangeOf(prefix("10.0.0.1/32")), rules.RangeOf(rules.Port(80))))
	set(rules.Set{Name: "socket_ranges", Key: types(rules.IPDaddr.Type(), rules.TCPDport.Type()), Interval: true}, one(rules.RangeOf(prefix("10.0.0.0/8")), rules.RangeBetween(rules.Port(80), rules.Port(90))))
	set(rules.Set{Name: "owners", Key: types(rules.MetaMark.Type(), rules.SkUID.Type(), rules.IIfName.Type())}, one(rules.RangeOf(rules.Mark(0x539)), rules.RangeOf(rules.UID(1337)), rules.RangeOf(rules.IfName("eth0"))))
	set(rules.Set{Name: "owner_ranges", Key: types(rules.MetaMark.Type(), rules.SkUID.Type()), Interval: true}, one(rules.RangeBetween(rules.Mark(1), rules.Mark(0xff)), rules.RangeBetween(rules.UID(0), rules.UID(999))))
	set(rules.Set{Name: "seen", Key: types(rules.IPDaddr.Type(), rules.TCPDport.Type()), Live: true, Dynamic: true, Expires: true, Counters: true, Timeout: 36*time.Hour + 90*time.Second, Size: 100},
		one(rules.RangeOf(prefix("10.0.0.1/32")), rules.RangeOf(rules.Port(80))))
	set(rules.Set{Name: "probes", Key: types(rules.MetaMark.Type()), Live: true, Expires: true, Timeout: time.Hour, Sweep: 90 * time.Minute}, one(rules.RangeOf(rules.Mark(1))))
	t.Set("probes").Elements[0].Comment, t.Set("probes").Elements[0].Timeout = "the first, 100%", 2*time.Hour
	t.Set("ports").Elements[0].Comment = "what the world sees"
	t.Set("users").Elements[1].Comment = "the proxy"

	verdicts := func(s rules.Set, elements ...rules.Element) {
		s.Verdicts, s.Elements = true, elements
		t.Sets = append(t.Sets, &s)
	}
	verdicts(rules.Set{Name: "by_port", Key: types(rules.TCPDport.Type()), Interval: true},
		rules.Element{Key: one(rules.RangeBetween(rules.Port(1), rules.Port(1023))), Verdict: rules.Drop()},
		rules.Element{Key: one(rules.RangeBetween(rules.Port(1024), rules.Port(65535))), Verdict: rules.Jump("later"), Comment: "high"})
	verdicts(rules.Set{Name: "by_mark", Key: types(rules.MetaMark.Type())}, rules.Element{Key: one(rules.RangeOf(rules.Mark(0x539))), Verdict: rules.Goto("later")})
	verdicts(rules.Set{Name: "by_user", Key: types(rules.SkUID.Type()), Interval: true}, rules.Element{Key: one(rules.RangeBetween(rules.UID(1000), rules.UID(2000))), Verdict: rules.Return()})

	out := &rules.Chain{Name: "out", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Output, Priority: rules.PriorityMangle}}
	name := func(s string) rules.SetOf[rules.Mark] { return rules.SetOf[rules.Mark]{Name: s} }
	out.Add("marks are in hexadecimal", rules.MetaMark.InSet(name("marks")), rules.CTMark.Masked(0x530, 0xff0), rules.MetaMark.SetMasked(0x111, 0xfff))
	masked := rules.MetaMark.InSet(name("mark_ranges"))
	masked.Mask = rules.RangeOf(rules.Mark(0xff)).Lo
	out.Add("a masked mark is looked up", masked, rules.Return())
	out.Add("users and groups are numbers", rules.SkUID.Is(1337), rules.SkGID.Within(rules.RangeBetween(rules.GID(5), rules.GID(9))), rules.Accept())
	out.Add("interfaces are quoted", rules.OIfName.Not("lo"), rules.OIfName.In("eth0", "eth1"), rules.IIf.Not(0), rules.IIf.Not(1), rules.OIf.Is(1), rules.Counter{})
	out.Add("wildcards end in an asterisk", rules.OIfName.Is("veth*"), rules.OIfName.In("wg*", "tun*"), rules.Drop())
	out.Add("prefixes and ranges", rules.IPDaddr.In(prefix("10.0.0.0/8"), prefix("172.16.0.0/12")), rules.TCPDport.NotWithin(rules.RangeBetween(rules.Port(1), rules.Port(1023))), rules.Return())
	out.Add("addresses of the other family", rules.IP6Daddr.Is(prefix("2001:db8::/32")), rules.UDPDport.Is(53), rules.Return())
	out.Add("every address", rules.IPSaddr.Is(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), rules.Counter{}, rules.Return())
	out.Add("states", rules.CTStates.AnyOf(rules.CTEstablished|rules.CTRelated), rules.FibDaddr.Type().Is(rules.Local), rules.Return())
	out.Add("no state", rules.CTStates.Masked(0, rules.CTEstablished|rules.CTRelated), rules.Return())
	out.Add("either protocol", rules.L4Proto.In(rules.TCP, rules.UDP), rules.ThDport.Is(53), rules.Return())
	out.Add("concatenations", rules.Match{Set: "sockets", Key: []rules.Selector{rules.IPDaddr.Selector(), rules.TCPDport.Selector()}}, rules.Return())
	out.Add("concatenations with ranges", rules.Match{Set: "owner_ranges", Key: []rules.Selector{rules.MetaMark.Selector(), rules.SkUID.Selector()}}, rules.Return())
	out.Add("maps", rules.VMap{Key: []rules.Selector{rules.TCPDport.Selector()}, Map: "by_port"})
	out.Add("maps by user", rules.VMap{Key: []rules.Selector{rules.SkUID.Selector()}, Map: "by_user"})
	in := &rules.Chain{Name: "in", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: rules.PriorityMangle, Drop: true}}
	in.Add("a socket of ours", rules.SocketTransparent.Is(true), rules.SocketMark.Is(0x539), rules.CTMark.SetFrom(rules.MetaMark), rules.Accept())
	in.Add("the proxy takes it", rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: 15006})
	in.Add("the proxy takes it on an address", rules.IP6Daddr.Is(prefix("::1/128")), rules.UDPDport.Is(53), rules.TProxy{Family: rules.IPv6, Addr: addr("::1"), Port: 15053})
	early := &rules.Chain{Name: "early", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: rules.PriorityRaw}}
	early.Add("a zone", rules.UDPDport.Is(53), rules.CTZone.Set(7))
	early.Add("no conntrack", rules.CTZone.Is(7), rules.NoTrack{})
	dst := &rules.Chain{Name: "destinations", Base: &rules.Base{Type: rules.NATType, Hook: rules.Prerouting, Priority: rules.PriorityDstNAT}}
	dst.Add("to the proxy: 100% of it", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	dst.Add("to several ports", rules.UDPDport.Is(53), rules.Redirect{Ports: ports(15053, 15060)})
	device := &rules.Chain{Name: "of_device", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Ingress, Devices: []string{"lo"}}}
	later := &rules.Chain{Name: "later"}
	later.Add("", rules.MetaMark.AnyOf(0xf), rules.Verdict{Kind: rules.ContinueKind})
	t.Chains = []*rules.Chain{out, in, early, dst, device, later}
	return rules.State{Table: t}
}
