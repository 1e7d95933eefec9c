// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"slices"
	"strings"
)

// field is what a match can read, and where nft takes it.
type field struct {
	text     string
	typ      string
	l3, l4   string // of the packets that have it; "" any
	families string
	hooks    string // "" all
	known    bool   // to the model, in one way of use or another
}

const (
	allFamilies = "inet ip ip6 bridge netdev arp"
	withIP      = "inet ip bridge netdev"
	withIP6     = "inet ip6 bridge netdev"
	withL4      = "inet ip ip6 bridge netdev"
	internet    = "inet ip ip6"
	early       = "prerouting input forward ingress"
	local       = "prerouting input output"
	stacked     = "prerouting input forward output postrouting"
)

var fields = []field{
	{"meta l4proto", "inet_proto", "", "", withL4, "", true},
	{"meta nfproto", "nf_proto", "", "", "inet", "", true},
	{"meta mark", "mark", "", "", allFamilies, "", true},
	{"mark", "mark", "", "", allFamilies, "", true},
	{"iifname", "ifname", "", "", allFamilies, "", true},
	{"oifname", "ifname", "", "", allFamilies, "", true},
	{"iif", "iface_index", "", "", allFamilies, "", true},
	{"meta skuid", "uid", "", "", internet, "", true},
	{"skgid", "gid", "", "", internet, "", true},
	{"ip saddr", "ipv4_addr", "ip", "", withIP, "", true},
	{"ip daddr", "ipv4_addr", "ip", "", withIP, "", true},
	{"ip6 saddr", "ipv6_addr", "ip6", "", withIP6, "", true},
	{"ip6 daddr", "ipv6_addr", "ip6", "", withIP6, "", true},
	{"tcp sport", "inet_service", "", "tcp", withL4, "", true},
	{"tcp dport", "inet_service", "", "tcp", withL4, "", true},
	{"udp sport", "inet_service", "", "udp", withL4, "", true},
	{"udp dport", "inet_service", "", "udp", withL4, "", true},
	{"th dport", "inet_service", "", "", withL4, "", true},
	{"th sport", "inet_service", "", "", withL4, "", true},
	{"tcp flags", "tcp_flag", "", "tcp", withL4, "", true},
	{"ct mark", "mark", "", "", internet, "", true},
	{"ct state", "ct_state", "", "", internet, "", true},
	{"ct zone", "integer2", "", "", internet, "", true},
	{"ct original zone", "integer2", "", "", internet, "", true},
	{"fib saddr type", "fib_addrtype", "", "", internet, stacked, true},
	{"fib daddr type", "fib_addrtype", "", "", internet, stacked, true},
	{"socket transparent", "pseudoboolean", "", "", internet, local, true},
	{"socket mark", "mark", "", "", internet, local, true},

	{"oif", "iface_index", "", "", allFamilies, "", false},
	{"meta iiftype", "iface_type", "device", "", allFamilies, "", false},
	{"meta iifgroup", "devgroup", "", "", allFamilies, "", false},
	{"oifgroup", "devgroup", "", "", allFamilies, "", false},
	{"meta length", "integer4", "", "", allFamilies, "", false},
	{"meta protocol", "ether_type", "", "", "inet bridge netdev", "", false},
	{"meta priority", "classid", "", "", allFamilies, "", false},
	{"meta pkttype", "pkt_type", "", "", allFamilies, "", false},
	{"meta cpu", "integer4", "", "", allFamilies, "", false},
	{"meta cgroup", "integer4", "", "", internet, "", false},
	{"rtclassid", "realm", "", "", internet, "", false},
	{"meta random", "integer4", "", "", allFamilies, "", false},
	{"meta time", "clock", "", "", allFamilies, "", false},
	{"meta hour", "hour", "", "", allFamilies, "", false},
	{"meta day", "day", "", "", allFamilies, "", false},
	{"meta iifkind", "ifname", "", "", internet, "", false},
	{"ip dscp", "dscp", "ip", "", withIP, "", false},
	{"ip ecn", "ecn", "ip", "", withIP, "", false},
	{"ip length", "integer2", "ip", "", withIP, "", false},
	{"ip id", "integer2", "ip", "", withIP, "", false},
	{"ip ttl", "integer1", "ip", "", withIP, "", false},
	{"ip checksum", "integer2", "ip", "", withIP, "", false},
	{"ip protocol", "inet_proto", "ip", "", withIP, "", false},
	{"ip6 nexthdr", "inet_proto", "ip6", "", withIP6, "", false},
	{"ip6 hoplimit", "integer1", "ip6", "", withIP6, "", false},
	{"ip6 length", "integer2", "ip6", "", withIP6, "", false},
	{"ip6 dscp", "dscp", "ip6", "", withIP6, "", false},
	{"tcp sequence", "integer4", "", "tcp", withL4, "", false},
	{"tcp ackseq", "integer4", "", "tcp", withL4, "", false},
	{"tcp window", "integer2", "", "tcp", withL4, "", false},
	{"tcp checksum", "integer2", "", "tcp", withL4, "", false},
	{"tcp urgptr", "integer2", "", "tcp", withL4, "", false},
	{"udp length", "integer2", "", "udp", withL4, "", false},
	{"udp checksum", "integer2", "", "udp", withL4, "", false},
	{"udplite sport", "inet_service", "", "udplite", withL4, "", false},
	{"sctp dport", "inet_service", "", "sctp", withL4, "", false},
	{"sctp vtag", "integer4", "", "sctp", withL4, "", false},
	{"dccp sport", "inet_service", "", "dccp", withL4, "", false},
	{"dccp type", "dccp_pkttype", "", "dccp", withL4, "", false},
	{"esp spi", "integer4", "", "esp", withL4, "", false},
	{"esp sequence", "integer4", "", "esp", withL4, "", false},
	{"ah spi", "integer4", "", "ah", withL4, "", false},
	{"ah hdrlength", "integer1", "", "ah", withL4, "", false},
	{"comp cpi", "integer2", "", "comp", withL4, "", false},
	{"icmp type", "icmp_type", "ip", "icmp", withIP, "", false},
	{"icmp code", "icmp_code", "ip", "icmp", withIP, "", false},
	{"icmp id", "integer2", "ip", "icmp", withIP, "", false},
	{"icmpv6 type", "icmpv6_type", "ip6", "icmpv6", withIP6, "", false},
	{"icmpv6 code", "icmpv6_code", "ip6", "icmpv6", withIP6, "", false},
	{"icmpv6 max-delay", "integer2", "ip6", "icmpv6", withIP6, "", false},
	{"igmp type", "igmp_type", "ip", "igmp", withIP, "", false},
	{"igmp group", "integer4", "ip", "igmp", withIP, "", false},
	{"ether saddr", "ether_addr", "ether", "", "bridge netdev", "", false},
	{"ether daddr", "ether_addr", "ether", "", "bridge netdev", "", false},
	{"ether type", "ether_type", "", "", "bridge netdev", "", false},
	{"arp operation", "arp_op", "arp", "", "arp bridge netdev", "", false},
	{"arp saddr ip", "ipv4_addr", "arp", "", "arp bridge netdev", "", false},
	{"arp daddr ether", "ether_addr", "arp", "", "arp bridge netdev", "", false},
	{"vlan id", "vlan_id", "vlan", "", "bridge netdev", "", false},
	{"ct direction", "ct_dir", "", "", internet, "", false},
	{"ct status", "ct_status", "", "", internet, "", false},
	{"ct expiration", "time", "", "", internet, "", false},
	{"ct bytes", "integer4", "", "", internet, "", false},
	{"ct original packets", "integer4", "", "", internet, "", false},
	{"ct avgpkt", "integer4", "", "", internet, "", false},
	{"ct reply zone", "integer2", "", "", internet, "", false},
	{"ct original ip saddr", "ipv4_addr", "ip", "", "inet ip", "", false},
	{"ct reply ip6 daddr", "ipv6_addr", "ip6", "", "inet ip6", "", false},
	{"ct id", "integer4", "", "", internet, "", false},
	{"rt classid", "realm", "", "", internet, "", false},
	{"rt ip nexthop", "ipv4_addr", "ip", "", "inet ip", "", false},
	{"rt ip6 nexthop", "ipv6_addr", "ip6", "", "inet ip6", "", false},
	{"rt mtu", "integer2", "", "", internet, "forward output postrouting", false},
	{"fib saddr oif", "iface_index", "", "", internet, "prerouting input forward", true},
	{"fib daddr oifname", "fibname", "", "", internet, "prerouting input forward", true},
	{"fib saddr . mark type", "fib_addrtype", "", "", internet, stacked, true},
	{"fib saddr . iif type", "fib_addrtype", "", "", internet, "prerouting input forward", true},
	{"socket wildcard", "pseudoboolean", "", "", internet, local, false},
	{"tcp option maxseg size", "integer2", "", "tcp", withL4, "", false},
	{"tcp option window count", "integer1", "", "tcp", withL4, "", false},
	{"tcp option sack-perm", "boolean", "", "tcp", withL4, "", false},
	{"tcp option timestamp tsval", "integer4", "", "tcp", withL4, "", false},
	{"exthdr frag", "boolean", "ip6", "", withIP6, "", false},
	{"exthdr hbh", "boolean", "ip6", "", withIP6, "", false},
	{"frag id", "integer4", "ip6", "", withIP6, "", false},
	{"rt0 addr[1]", "ipv6_addr", "ip6", "", withIP6, "", false},
	{"mh type", "mh_type", "ip6", "", withIP6, "", false},
	{"numgen inc mod 8", "slot", "", "", allFamilies, "", false},
	{"numgen random mod 8 offset 3", "slot", "", "", allFamilies, "", false},
	{"jhash ip saddr mod 8", "slot", "ip", "", withIP, "", false},
	{"jhash ip6 saddr . tcp dport mod 8 seed 0xfe", "slot", "ip6", "tcp", withIP6, "", false},
	{"symhash mod 8", "slot", "", "", allFamilies, "", false},
	{"ipsec in reqid", "integer4", "", "", internet, early, false},
}

var (
	knownFields = slices.IndexFunc(fields, func(f field) bool { return !f.known })
	fieldsOf    = map[string][]field{}
)

func init() {
	for _, f := range fields {
		fieldsOf[f.typ] = append(fieldsOf[f.typ], f)
	}
	literalsOf["vlan_id"] = literals{words: []string{"1", "77", "4095"}}
	literalsOf["fibname"] = literals{words: []string{`"lo"`, `"v0"`}}
	literalsOf["slot"] = literals{words: []string{"0", "1", "2", "3", "4", "5", "6", "7"}}
}

// place is where a rule stands, and what it has settled of its packets.
type place struct {
	typ, hook string // of the base chain; "" where any may come to it
	priority  int
	l3, l4    string
	ended     bool
}

// fits reports whether a field can be read there.
func (f field) fits(g *grammar, p *place) bool {
	if !says(f.families, g.family) || f.l3 != "" && p.l3 != "" && f.l3 != p.l3 || f.l4 != "" && p.l4 != "" && f.l4 != p.l4 {
		return false
	}
	link := func(l3 string) bool { return l3 == "arp" || l3 == "device" || l3 == "ether" }
	if link(p.l3) && f.l4 != "" || link(f.l3) && p.l4 != "" {
		return false
	}
	if f.l3 == "ip" && g.family == "ip6" || f.l3 == "ip6" && g.family == "ip" {
		return false
	}
	if f.hooks != "" && !says(f.hooks, p.hook) {
		return false
	}
	return !strings.HasPrefix(f.text, "oif") || p.hook != "prerouting" && p.hook != "input" && p.hook != "ingress"
}

// says reports whether a list of words has the word.
func says(list, word string) bool {
	for i := 0; i+len(word) <= len(list); i++ {
		if list[i:i+len(word)] == word && (i == 0 || list[i-1] == ' ') && (i+len(word) == len(list) || list[i+len(word)] == ' ') {
			return word != ""
		}
	}
	return false
}

// settle notes what reading the field says of the packet.
func (p *place) settle(f field) {
	if f.l3 != "" {
		p.l3 = f.l3
	}
	if f.l4 != "" && !strings.HasPrefix(f.text, "tcp option") && !strings.HasPrefix(f.text, "sctp chunk") && !strings.HasPrefix(f.text, "osf") {
		p.l4 = f.l4
	}
}

// field is one that fits there, of the type unless that is "".
func (g *grammar) field(p *place, typ string) (field, bool) {
	all := fields
	switch {
	case typ != "":
		all = fieldsOf[typ]
	case g.plain:
		all = fields[:knownFields]
	}
	if len(all) == 0 {
		return field{}, false
	}
	start := g.IntN(len(all)) // most fit: the first that does from a place at random
	for i := range all {
		if f := &all[(start+i)%len(all)]; f.fits(g, p) {
			return *f, true
		}
	}
	return field{}, false
}

// reading are fields of these types, as a concatenation.
func (g *grammar) reading(p *place, types []string) (string, bool) {
	var words []string
	at := *p
	for _, typ := range types {
		f, ok := g.field(&at, typ)
		if !ok {
			return "", false
		}
		at.settle(f)
		words = append(words, f.text)
	}
	*p = at
	return strings.Join(words, " . "), true
}

// match is one match, "" where none came of it.
func (g *grammar) match(p *place) string {
	if !g.plain && g.one(8) {
		return g.oddMatch(p)
	}
	if g.one(4) {
		return g.lookup(p)
	}
	if g.one(6) {
		return g.inlineConcatenation(p)
	}
	f, ok := g.field(p, "")
	if !ok {
		return ""
	}
	if f.text == "meta l4proto" || f.text == "meta nfproto" || f.text == "ip protocol" || f.text == "ip6 nexthdr" || f.text == "ether type" || f.text == "meta protocol" {
		return g.protocol(p, f)
	}
	p.settle(f)
	return f.text + g.test(f)
}

// protocol is a match that may settle what the packets are.
func (g *grammar) protocol(p *place, f field) string {
	if p.l3 != "" || p.l4 != "" || f.families == "" {
		return ""
	}
	switch f.text {
	case "meta nfproto", "ether type", "meta protocol":
		word := any1(g, "ip", "ip6")
		if p.l3 = word; f.text == "meta nfproto" {
			word = map[string]string{"ip": "ipv4", "ip6": "ipv6"}[word]
		}
		return f.text + " " + word
	case "ip protocol":
		p.l3 = "ip"
	case "ip6 nexthdr":
		p.l3 = "ip6"
	}
	if g.one(3) {
		p.l4 = "none"
		return f.text + any1(g, " != tcp", " { tcp, udp }", " 6-17", " != { 6, 17 }", " >= 6", " 50-51", " != 100-255", " 255")
	}
	p.l4 = any1(g, "tcp", "udp")
	return f.text + " " + p.l4
}

// test is what a field is compared with.
func (g *grammar) test(f field) string {
	typ := f.typ
	not := any1(g, " ", " ", " ", " != ", " == ")
	one := g.value(typ)
	switch g.IntN(9) {
	case 0:
		if ranged(typ) || typ == "ifname" && !strings.HasPrefix(f.text, "fib") && not != " == " {
			return strings.Replace(not, " == ", " ", 1) + g.span(typ, literalsOf[typ].slot(g))
		}
	case 1, 2:
		if listable(typ) {
			elements := g.distinct(typ, 1+g.IntN(5), ranged(typ) && g.one(2) || typ == "ifname" && g.one(4))
			if g.one(12) {
				elements[0] += any1(g, " comment \""+g.comment()+"\"", " counter", " limit rate 1/second")
			}
			return any1(g, " ", " != ") + "{ " + strings.Join(elements, ", ") + " }"
		}
	case 3:
		if ranged(typ) && typ != "ether_addr" && !strings.Contains(f.text, "fib") {
			return any1(g, " < ", " > ", " <= ", " >= ") + g.value2(typ)
		}
	case 4:
		return g.masked(f, not)
	case 5:
		if typ == "ct_state" || typ == "ct_status" || typ == "tcp_flag" {
			return any1(g, " ", " != ") + strings.Join(g.distinct(typ, 2+g.IntN(2), false), ",")
		}
	}
	return not + one
}

// value2 is a value that is neither the first nor the last of its type.
func (g *grammar) value2(typ string) string {
	l := literalsOf[typ]
	b := g.numeral(l, 1+g.IntN(6))
	return l.format(b)
}

func listable(typ string) bool { return typ != "hour" && typ != "clock" }

func (g *grammar) masked(f field, not string) string {
	l := literalsOf[f.typ]
	switch {
	case f.typ == "ct_state" || f.typ == "ct_status" || f.typ == "tcp_flag":
		set := g.distinct(f.typ, 2, false)
		return fmt.Sprintf(" & (%s | %s) %s %s", set[0], set[1], any1(g, "==", "!="), any1(g, set[0], "0", set[0]+" | "+set[1]))
	case f.typ == "mark" || f.typ == "ipv4_addr" || f.typ == "ipv6_addr":
		mask, v := g.numeral(l, g.IntN(slots)), g.numeral(l, g.IntN(slots))
		for i := range v {
			v[i] &= mask[i]
		}
		if bigValue(mask) == 0 && l.bytes <= 8 {
			break
		}
		return fmt.Sprintf(" & %s %s %s", l.format(mask), any1(g, "==", "!="), l.format(v))
	}
	return not + g.value(f.typ)
}

// lookup is a match against a declared set.
func (g *grammar) lookup(p *place) string {
	for range 3 {
		if len(g.sets) == 0 {
			return ""
		}
		s := g.sets[g.IntN(len(g.sets))]
		if s.data != "" {
			continue
		}
		if key, ok := g.reading(p, s.types); ok {
			if len(s.types) == 1 && s.types[0] == "mark" && g.one(4) {
				key += " & 0xff"
			}
			return key + any1(g, " ", " ", " != ", " == ") + "@" + s.name
		}
	}
	return ""
}

// concatenable are types whose values may be parts of an anonymous key.
var concatenable = []string{"ipv4_addr", "ipv6_addr", "inet_service", "inet_proto", "mark", "ifname", "uid", "gid", "ct_state", "icmp_type", "ether_addr", "iface_index", "fib_addrtype"}

func (g *grammar) types(n int) []string {
	var out []string
	for range n {
		out = append(out, any1(g, concatenable...))
	}
	return out
}

// inlineConcatenation has one element as often as more.
func (g *grammar) inlineConcatenation(p *place) string {
	types := g.types(2 + g.IntN(2))
	key, ok := g.reading(p, types)
	if !ok {
		return ""
	}
	elements := g.keys(types, 1+g.IntN(2)*g.IntN(4), g.one(2))
	return key + any1(g, " ", " ", " != ") + "{ " + strings.Join(elements, ", ") + " }"
}

// oddMatch is a match of no regular form.
func (g *grammar) oddMatch(p *place) string {
	f := any1(g,
		field{"tcp flags syn / syn,ack", "", "", "tcp", withL4, "", false},
		field{"tcp flags & (fin|syn|rst|ack) == syn", "", "", "tcp", withL4, "", false},
		field{"tcp flags != ack / fin,ack", "", "", "tcp", withL4, "", false},
		field{"tcp flags { syn, syn | ack }", "", "", "tcp", withL4, "", false},
		field{"@th,0,8 1", "", "", "", withL4, "", false},
		field{"@nh,96,24 0x0a0000", "", "", "", allFamilies, "", false},
		field{"@ll,0,48 1", "", "", "", "bridge netdev", "", false},
		field{"@th,16,16 { 22, 80 }", "", "", "", withL4, "", false},
		field{"ip frag-off & 0x1fff != 0", "", "ip", "", withIP, "", false},
		field{"ip hdrlength 5", "", "ip", "", withIP, "", false},
		field{"ip option lsrr exists", "", "ip", "", "inet ip", "", false},
		field{"ip6 flowlabel 0x12345", "", "ip6", "", withIP6, "", false},
		field{"fib saddr . iif oif missing", "", "", "", internet, "prerouting input forward", false},
		field{"fib daddr . iif type != { local, broadcast }", "", "", "", internet, "prerouting input forward", false},
		field{"meta mark | 0x5 == 0x5", "", "", "", allFamilies, "", false},
		field{"meta mark ^ 0x5 == 0x15", "", "", "", allFamilies, "", false},
		field{"ct mark and 0xff or 0x10 == 0x11", "", "", "", internet, "", false},
		field{"ct state ! invalid", "", "", "", internet, "", false},
		field{"meta ibrname \"br0\"", "", "", "", "none", "", false},
		field{"osf name \"Linux\"", "", "", "tcp", internet, "prerouting input forward", false},
		field{"osf ttl skip version \"Linux:3.0\"", "", "", "tcp", internet, "prerouting input forward", false},
		field{"meta hour \"09:00\"-\"17:00\"", "", "", "", allFamilies, "", false},
		field{"ct count over 20", "", "", "", internet, "", false},
		field{"tcp option sack0 left 1", "", "", "tcp", withL4, "", false},
		field{"tcp option 255 exists", "", "", "tcp", withL4, "", false},
		field{"sctp chunk data exists", "", "", "sctp", withL4, "", false},
		field{"ip saddr & 0.0.0.255 { 0.0.0.1, 0.0.0.7 }", "", "ip", "", withIP, "", false},
		field{"ip daddr . tcp dport vmap { 10.0.0.1 . 80 : accept }", "", "ip", "tcp", withIP, "", false},
		field{"vlan type ip", "", "vlan", "", "bridge netdev", "", false},
		field{"socket cgroupv2 level 1 \"/\"", "", "", "", "none", "", false},
		field{"ip dscp { cs1, cs2 } ip ecn 1", "", "ip", "", withIP, "", false},
		field{"iif \"lo\"", "", "", "", allFamilies, "", false},
		field{"oif != { \"lo\" }", "", "", "", internet, "output", false},
		field{"tcp dport & 0xff00 == 0", "", "", "tcp", withL4, "", false},
		field{"tcp dport 80 tcp sport 1024-65535", "", "", "tcp", withL4, "", false},
		field{"udp sport != 53 udp dport != 53", "", "", "udp", withL4, "", false},
		field{"ip saddr 10.0.0.0/8 ip daddr != 10.0.0.0/9", "", "ip", "", withIP, "", false},
		field{"meta l4proto { tcp, udp } th dport 53", "", "", "none", withL4, "", false},
	)
	if !f.fits(g, p) || p.l4 != "" && f.l4 == "none" {
		return ""
	}
	p.settle(f)
	return f.text
}
