// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"slices"
	"strings"
)

// phrase is a statement of no regular form, and where nft takes it.
type phrase struct {
	text     string
	l3, l4   string
	families string
	types    string // of base chains; "" any
	hooks    string // "" any
	ends     bool   // the rule
	known    bool
}

const natted = "nat"

var phrases = []phrase{
	{"counter", "", "", allFamilies, "", "", false, true},
	{"counter packets 12 bytes 3456", "", "", allFamilies, "", "", false, true},
	{"continue", "", "", allFamilies, "", "", true, true},
	{"notrack", "", "", internet, "", "raw", false, true},
	{"ct zone set 7", "", "", internet, "", "raw", false, true},
	{"meta mark set ct mark", "", "", internet, "", "", false, true},
	{"ct mark set meta mark", "", "", internet, "", "", false, true},
	{"ct mark set meta mark & 0xff", "", "", internet, "", "", false, true},
	{"ct mark set ct mark & 0xfffff000 | 0x111", "", "", internet, "", "", false, true},
	{"meta mark set meta mark ^ 0x3", "", "", allFamilies, "", "", false, true},
	{"meta mark set mark | 0x10", "", "", allFamilies, "", "", false, true},
	{"meta mark set socket mark", "", "", internet, "", local, false, true},
	{"redirect", "", "", internet, natted, "prerouting output", true, true},
	{"redirect to :8080", "", "tcp", internet, natted, "prerouting output", true, true},
	{"redirect to :8080-8090", "", "udp", internet, natted, "prerouting output", true, true},
	{"tproxy to :15006", "", "tcp", internet, "filter", "prerouting", false, true},
	{"tproxy ip to 127.0.0.1:15006", "ip", "tcp", "inet", "filter", "prerouting", false, true},
	{"tproxy ip6 to [::1]:15006", "ip6", "udp", "inet", "filter", "prerouting", false, true},
	{"reject with tcp reset", "", "tcp", internet, "filter", "input forward output", true, true},
	{"reject with icmpx type port-unreachable", "", "", "inet", "filter", "input forward output", true, true},
	{"ip daddr set 10.0.0.1", "ip", "", "inet ip", "", "", false, true},
	{"tcp dport set 8080", "", "tcp", internet, "", "", false, true},
	{"snat ip to 10.0.0.1", "ip", "", "inet", natted, "postrouting input", true, true},
	{"snat ip6 to 2001:db8::1", "ip6", "", "inet", natted, "postrouting input", true, true},
	{"snat to 10.0.0.1", "ip", "", "ip", natted, "postrouting input", true, true},

	{"log", "", "", allFamilies, "", "", false, false},
	{"log prefix \"seen \" level warn", "", "", allFamilies, "", "", false, false},
	{"log group 2 snaplen 64 queue-threshold 3", "", "", allFamilies, "", "", false, false},
	{"log flags tcp sequence,options flags ip options", "", "", allFamilies, "", "", false, false},
	{"log prefix \"a\" flags all", "", "", allFamilies, "", "", false, false},
	{"limit rate 5/second", "", "", allFamilies, "", "", false, false},
	{"limit rate over 10 mbytes/minute burst 7 kbytes", "", "", allFamilies, "", "", false, false},
	{"limit rate 400/hour burst 9 packets", "", "", allFamilies, "", "", false, false},
	{"quota 10 mbytes", "", "", allFamilies, "", "", false, false},
	{"quota over 500 bytes used 3 bytes", "", "", allFamilies, "", "", false, false},
	{"reject", "", "", internet, "filter", "input forward output", true, false},
	{"reject with icmp host-unreachable", "ip", "", "inet ip", "filter", "input forward output", true, false},
	{"reject with icmpv6 no-route", "ip6", "", "inet ip6", "filter", "input forward output", true, false},
	{"reject with icmpx admin-prohibited", "", "", "inet", "filter", "input forward output", true, false},
	{"masquerade", "", "", internet, natted, "postrouting", true, false},
	{"masquerade to :1024-2048 random", "", "tcp", internet, natted, "postrouting", true, false},
	{"masquerade fully-random,persistent", "", "", internet, natted, "postrouting", true, false},
	{"snat ip to 10.0.0.1-10.0.0.9", "ip", "", "inet", natted, "postrouting input", true, false},
	{"snat ip to 10.0.0.1:1024-2048 persistent", "ip", "tcp", "inet", natted, "postrouting input", true, false},
	{"snat ip prefix to ip saddr map { 10.0.0.0/24 : 10.1.0.0/24 }", "ip", "", "inet", natted, "postrouting", true, false},
	{"snat ip to ip saddr map { 10.0.0.1 : 10.0.0.2, 10.0.0.9 : 10.0.0.3 }", "ip", "", "inet", natted, "postrouting", true, false},
	{"dnat ip to 10.0.0.1", "ip", "", "inet", natted, "prerouting output", true, false},
	{"dnat to 10.0.0.1:80", "ip", "tcp", "ip", natted, "prerouting output", true, false},
	{"dnat ip6 to [2001:db8::1]:80", "ip6", "tcp", "inet", natted, "prerouting output", true, false},
	{"dnat ip to tcp dport map { 80 : 10.0.0.1, 90 : 10.0.0.2 }", "ip", "tcp", "inet", natted, "prerouting output", true, false},
	{"dnat ip to ip daddr . tcp dport map { 10.0.0.1 . 80 : 10.0.0.2 . 8080 }", "ip", "tcp", "inet", natted, "prerouting output", true, false},
	{"dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }", "ip", "", "inet", natted, "prerouting", true, false},
	{"redirect to :80 random", "", "tcp", internet, natted, "prerouting output", true, false},
	{"redirect to :tcp dport map { 80 : 8080, 443 : 8443 }", "", "tcp", internet, natted, "prerouting output", true, false},
	{"tproxy ip to 127.0.0.1:tcp dport map { 80 : 8080 }", "ip", "tcp", "inet", "filter", "prerouting", false, false},
	{"meta priority set 1:2", "", "", allFamilies, "", "", false, false},
	{"meta nftrace set 1", "", "", allFamilies, "", "", false, false},
	{"meta pkttype set broadcast", "", "", "netdev bridge inet", "", "prerouting ingress", false, false},
	{"meta mark set numgen inc mod 4", "", "", allFamilies, "", "", false, false},
	{"meta mark set jhash ip saddr . ip daddr mod 4 offset 7", "ip", "", withIP, "", "", false, false},
	{"meta mark set symhash mod 2", "", "", allFamilies, "", "", false, false},
	{"meta mark set ip dscp", "ip", "", "none", "", "", false, false},
	{"ct event set new,related", "", "", internet, "", "", false, false},
	{"ct zone set meta mark map { 0x1 : 1, 0x2 : 2 }", "", "", internet, "", "raw", false, false},
	{"ct original zone set 5", "", "", internet, "", "raw", false, false},
	{"ct mark set meta mark map { 0x1 : 0x2 }", "", "", internet, "", "", false, false},
	{"ct mark set ct mark or 0x1 and 0xff", "", "", internet, "", "", false, false},
	{"meta mark set ip saddr map { 10.0.0.1 : 0x1, 10.0.0.2 : 0x2 }", "ip", "", withIP, "", "", false, false},
	{"meta mark set vlan id map { 1 : 0x1, 2 : 0x2 }", "vlan", "", "bridge netdev", "", "", false, false},
	{"ip ttl set 7", "ip", "", withIP, "", "", false, false},
	{"ip dscp set cs3", "ip", "", withIP, "", "", false, false},
	{"ip6 hoplimit set 3", "ip6", "", withIP6, "", "", false, false},
	{"udp checksum set 0", "", "udp", withL4, "", "", false, false},
	{"tcp option maxseg size set 1000", "", "tcp", withL4, "", "", false, false},
	{"tcp option maxseg size set rt mtu", "", "tcp", internet, "", "forward output postrouting", false, false},
	{"reset tcp option sack-perm", "", "tcp", withL4, "", "", false, false},
	{"ether saddr set 00:00:5e:00:53:01", "", "", "bridge netdev", "", "", false, false},
	{"dup to 10.0.0.9", "ip", "", "ip", "", "prerouting input forward output postrouting", false, false},
	{"dup to 10.0.0.9 device \"lo\"", "ip", "", "ip", "", "prerouting input forward output postrouting", false, false},
	{"dup to 2001:db8::9", "ip6", "", "ip6", "", "prerouting input forward output postrouting", false, false},
	{"dup to \"lo\"", "", "", "netdev", "", "ingress", false, false},
	{"fwd to \"lo\"", "", "", "netdev", "", "ingress", true, false},
	{"fwd ip to 10.0.0.9 device \"lo\"", "ip", "", "netdev", "", "ingress", true, false},
	{"synproxy mss 1460 wscale 9 timestamp sack-perm", "", "tcp", internet, "filter", "input forward", false, false},
	{"queue num 3", "", "", "none", "", "", true, false},
	{"last", "", "", "none", "", "", false, false},
}

var knownPhrases = slices.IndexFunc(phrases, func(ph phrase) bool { return !ph.known })

func (ph phrase) fits(g *grammar, p *place) bool {
	if ph.hooks == "raw" && !(p.typ == "filter" && p.priority < -200 && (p.hook == "prerouting" || p.hook == "output")) {
		return false
	}
	if ph.types != "" && ph.types != p.typ || ph.hooks != "" && ph.hooks != "raw" && !says(ph.hooks, p.hook) {
		return false
	}
	wantL3 := ph.l3 != "" && p.l3 != ph.l3 && g.family != ph.l3
	return !wantL3 && (ph.l4 == "" || ph.l4 == p.l4) && says(ph.families, g.family) && (ph.known || !g.plain)
}

// statement is one statement, "" where none came of it.
func (g *grammar) statement(p *place) string {
	switch g.IntN(7) {
	case 0:
		return g.assignment(p)
	case 1:
		if !g.plain {
			return g.update(p)
		}
	case 2:
		if !g.plain {
			return g.object(p)
		}
	}
	all := phrases
	if g.plain {
		all = phrases[:knownPhrases]
	}
	start := g.IntN(len(all))
	for i := range all {
		if ph := &all[(start+i)%len(all)]; ph.fits(g, p) {
			p.ended = p.ended || ph.ends || strings.HasPrefix(ph.text, "tproxy")
			return ph.text
		}
	}
	return ""
}

// assignment sets a mark, to a value or by a map.
func (g *grammar) assignment(p *place) string {
	to := "meta mark"
	if says(internet, g.family) && g.one(2) {
		to = "ct mark"
	}
	if g.plain || g.one(2) {
		return to + " set " + g.value("mark")
	}
	for _, s := range g.sets {
		if s.data == "mark" && !s.dynamic {
			if key, ok := g.reading(p, s.types); ok {
				return to + " set " + key + " map @" + s.name
			}
		}
	}
	return to + " set " + g.value("mark")
}

// update adds to, updates or deletes from a dynamic set.
func (g *grammar) update(p *place) string {
	for _, s := range g.sets {
		if !s.dynamic {
			continue
		}
		key, ok := g.reading(p, s.types)
		if !ok {
			continue
		}
		more := ""
		if s.expires && g.one(2) {
			more = " timeout " + any1(g, "1s", "500ms", "1h30m", "1d")
		}
		if s.data != "" {
			return "update @" + s.name + " { " + key + more + " : " + g.value(s.data) + " }"
		}
		if !s.counters && g.one(3) {
			more += any1(g, " counter", " limit rate 5/second", " quota 9 mbytes", " limit rate over 1/minute burst 3 packets")
		}
		return any1(g, "add", "update", "delete") + " @" + s.name + " { " + key + more + " }"
	}
	return ""
}

// object refers to a named object of the table.
func (g *grammar) object(p *place) string {
	kind := any1(g, "counter", "quota", "limit", "ct helper", "ct timeout", "ct expectation", "synproxy")
	names := g.objects[kind]
	if len(names) == 0 {
		return ""
	}
	name := any1(g, names...)
	switch kind {
	case "counter", "quota", "limit":
		if g.one(4) && kind == "counter" {
			if key, ok := g.reading(p, []string{"inet_service"}); ok {
				return fmt.Sprintf(`counter name %s map { 80 : "%s", 90 : "%s" }`, key, name, name)
			}
		}
		return kind + ` name "` + name + `"`
	case "synproxy":
		if p.typ != "filter" || p.hook != "input" && p.hook != "forward" || p.l4 != "tcp" {
			return ""
		}
		return `synproxy name "` + name + `"`
	}
	if p.hook != "prerouting" && p.hook != "output" || p.typ != "filter" || p.l4 != "tcp" {
		return ""
	}
	return kind + ` set "` + name + `"`
}

// verdict ends a rule; of chains, those may be jumped to.
func (g *grammar) verdict(chains []string) string {
	v := any1(g, "accept", "drop", "return", "continue", "jump", "goto")
	if v == "jump" || v == "goto" {
		if len(chains) == 0 {
			return "return"
		}
		v += " " + any1(g, chains...)
	}
	return v
}

// vmap looks verdicts up.
func (g *grammar) vmap(p *place, chains []string) string {
	if g.one(2) {
		for _, s := range g.sets {
			if s.data != "verdict" || p.typ == "" { // it may lead back to where it is looked up
				continue
			}
			if key, ok := g.reading(p, s.types); ok {
				return key + " vmap @" + s.name
			}
		}
	}
	types := g.types(1 + g.IntN(2)*g.IntN(2))
	key, ok := g.reading(p, types)
	if !ok {
		return ""
	}
	elements := g.keys(types, 1+g.IntN(4), g.one(2) && types[0] != "ifname")
	if g.one(6) {
		elements = append(elements, "*")
	}
	for i := range elements {
		elements[i] += " : " + g.verdict(chains)
	}
	return key + " vmap { " + strings.Join(elements, ", ") + " }"
}
