// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// grammar writes rulesets in the language of nft at random. The same seed writes
// the same ruleset.
type grammar struct {
	*rand.Rand
	family  string
	plain   bool // keeps to what the model knows, more often than not
	sets    []textSet
	objects map[string][]string // names by kind
}

func newGrammar(seed uint64) *grammar {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return &grammar{Rand: rand.New(rand.NewChaCha8(key)), objects: map[string][]string{}}
}

// one is true one time in n.
func (g *grammar) one(n int) bool { return g.IntN(n) == 0 }

func any1[T any](g *grammar, of ...T) T { return of[g.IntN(len(of))] }

// literals are the values of one data type, as text.
type literals struct {
	bytes  int      // of a value that is a number; 0: words alone
	words  []string // symbols
	format func([]byte) string
	prefix bool // takes ADDRESS/LENGTH
	most   uint64
}

var literalsOf = map[string]literals{
	"ipv4_addr":     {bytes: 4, format: formatAddr, prefix: true},
	"ipv6_addr":     {bytes: 16, format: formatAddr, prefix: true},
	"ether_addr":    {bytes: 6, format: formatEther},
	"inet_service":  {bytes: 2, format: formatDecimal},
	"inet_proto":    {bytes: 1, format: formatDecimal, words: []string{"tcp", "udp", "icmp", "ipv6-icmp", "sctp", "esp", "ah", "comp", "udplite", "dccp"}},
	"mark":          {bytes: 4, format: formatHex},
	"uid":           {bytes: 4, format: formatDecimal},
	"gid":           {bytes: 4, format: formatDecimal},
	"iface_index":   {bytes: 4, format: formatDecimal, most: 1<<31 - 1},
	"realm":         {bytes: 4, format: formatDecimal},
	"classid":       {words: []string{"1:2", "0:1", "ffff:ffff", "abcd:1"}},
	"devgroup":      {bytes: 4, format: formatDecimal},
	"iface_type":    {words: []string{"ether", "loopback", "ppp", "ipip", "0x17"}},
	"ifname":        {words: []string{`"lo"`, `"eth0"`, `"eth1"`, `"veth"`, `"wg-0.1"`, `"abcdefghijklmno"`, `"é"`, "eth2", `"tcp"`}},
	"ct_state":      {words: []string{"established", "new", "related", "invalid", "untracked"}},
	"ct_dir":        {words: []string{"original", "reply"}},
	"ct_status":     {words: []string{"expected", "seen-reply", "assured", "confirmed", "snat", "dnat", "dying"}},
	"icmp_type":     {words: []string{"echo-request", "echo-reply", "destination-unreachable", "redirect", "42", "time-exceeded"}},
	"icmpv6_type":   {words: []string{"echo-request", "nd-router-advert", "packet-too-big", "mld-listener-query", "200"}},
	"icmp_code":     {words: []string{"net-unreachable", "port-unreachable", "admin-prohibited", "77"}},
	"icmpv6_code":   {words: []string{"no-route", "admin-prohibited", "addr-unreachable", "77"}},
	"tcp_flag":      {words: []string{"syn", "ack", "fin", "rst", "psh", "urg", "ecn", "cwr"}},
	"dccp_pkttype":  {words: []string{"request", "response", "data", "ack", "reset"}},
	"igmp_type":     {words: []string{"membership-query", "membership-report-v1", "leave-group"}},
	"arp_op":        {words: []string{"request", "reply", "rrequest", "inreply", "nak"}},
	"ether_type":    {words: []string{"ip", "ip6", "arp", "vlan", "0x88cc"}},
	"nf_proto":      {words: []string{"ipv4", "ipv6"}},
	"fib_addrtype":  {words: []string{"local", "unicast", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"}},
	"pkt_type":      {words: []string{"host", "broadcast", "multicast", "other"}},
	"dscp":          {words: []string{"cs0", "cs1", "af11", "af42", "ef", "0x3f", "0x2b"}},
	"ecn":           {words: []string{"not-ect", "ect0", "ect1", "ce"}},
	"boolean":       {words: []string{"exists", "missing"}},
	"mh_type":       {words: []string{"home-test", "binding-update", "binding-error"}},
	"time":          {words: []string{"1s", "1m", "1h", "1d2h3m4s", "30d"}},
	"integer1":      {bytes: 1, format: formatDecimal},
	"integer2":      {bytes: 2, format: formatDecimal},
	"integer4":      {bytes: 4, format: formatDecimal},
	"clock":         {words: []string{`"2020-01-01"`, `"2030-06-07 12:34:56"`}},
	"hour":          {words: []string{`"12:00"`, `"23:59:58"`, `"00:00"`}},
	"day":           {words: []string{"Monday", "Saturday", `"Sunday"`}},
	"pseudoboolean": {words: []string{"0", "1"}},
}

func formatAddr(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

func formatEther(b []byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

func bigValue(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

func formatDecimal(b []byte) string { return strconv.FormatUint(bigValue(b), 10) }

func formatHex(b []byte) string { return fmt.Sprintf("0x%x", bigValue(b)) }

// slots cut the values of a type into as many parts, by their first bits: values
// of different slots differ, and their ranges are apart.
const slots = 16

// numeral is a number within a slot, often an extreme one.
func (g *grammar) numeral(l literals, slot int) []byte {
	b := make([]byte, l.bytes)
	switch g.IntN(5) {
	case 0:
	case 1:
		for i := range b {
			b[i] = 0xff
		}
	case 2:
		b[len(b)-1] = byte(g.IntN(256))
		if l.bytes == 16 && g.one(2) { // ::ffff:0.0.0.0/96
			b[10], b[11] = 0xff, 0xff
			copy(b[12:], []byte{192, 0, 2, byte(g.IntN(256))})
		}
	default:
		for i := range b {
			b[i] = byte(g.IntN(256))
		}
	}
	b[0] = b[0]&0x0f | byte(slot<<4)
	if l.most > 0 && bigValue(b) > l.most {
		b[0] &= 0x7f
	}
	return b
}

func (l literals) slot(g *grammar) int {
	if l.most > 0 {
		return g.IntN(slots / 2)
	}
	return g.IntN(slots)
}

// value is one value of the type.
func (g *grammar) value(typ string) string {
	l := literalsOf[typ]
	if l.bytes == 0 || len(l.words) > 0 && g.one(2) {
		return any1(g, l.words...)
	}
	return l.format(g.numeral(l, l.slot(g)))
}

func ranged(typ string) bool { return literalsOf[typ].bytes > 0 }

// span is a range, a prefix or a wildcard within a slot.
func (g *grammar) span(typ string, slot int) string {
	l := literalsOf[typ]
	if typ == "ifname" {
		return fmt.Sprintf(`"%c%s*"`, 'a'+slot, any1(g, "", "x", "th1", "bcdefghijklmn"))
	}
	a, b := g.numeral(l, slot), g.numeral(l, slot)
	if g.one(4) { // from the slot's first value to its last
		clear(a[1:])
		for i := range b {
			b[i] = 0xff
		}
		a[0], b[0] = byte(slot<<4), byte(slot<<4)|0x0f
	}
	switch c := bytes.Compare(a, b); {
	case l.prefix && g.one(2):
		addr, _ := netip.AddrFromSlice(a)
		p, _ := addr.Prefix(4 + g.IntN(len(a)*8-3))
		return p.String()
	case c < 0:
		return l.format(a) + "-" + l.format(b)
	case c > 0:
		return l.format(b) + "-" + l.format(a)
	}
	return l.format(a)
}

// distinct are values of the type that are apart; with ranges among them where
// spans is true.
func (g *grammar) distinct(typ string, n int, spans bool) []string {
	l := literalsOf[typ]
	if l.bytes == 0 && !(typ == "ifname" && spans) {
		words := slices.Clone(l.words)
		g.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		return words[:min(n, len(words))]
	}
	end := slots
	if l.most > 0 {
		end = slots / 2
	}
	order := g.Perm(end)
	var out []string
	for _, slot := range order[:min(n, end)] {
		switch {
		case typ == "ifname", spans && g.one(2):
			out = append(out, g.span(typ, slot))
		default:
			out = append(out, l.format(g.numeral(l, slot)))
		}
	}
	return out
}

// keys are distinct keys of the types; only the first part of a concatenation
// tells them apart for certain.
func (g *grammar) keys(types []string, n int, spans bool) []string {
	out := g.distinct(types[0], n, spans)
	for i := range out {
		for _, typ := range types[1:] {
			switch {
			case spans && ranged(typ) && g.one(3):
				out[i] += " . " + g.span(typ, literalsOf[typ].slot(g))
			case spans && typ == "ifname" && g.one(4):
				out[i] += " . " + g.span(typ, g.IntN(slots))
			default:
				out[i] += " . " + g.value(typ)
			}
		}
	}
	return out
}

func (g *grammar) comment() string {
	return any1(g, "why it is there", `back\slash é 100% $x #5`, "it's; {odd}", "a, b : c", "  blanks  ", "<unknown: log>", "@set * !", strings.Repeat("x", 128))
}
