// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"slices"
	"strings"
)

// textSet is a set or map that the ruleset declares.
type textSet struct {
	name               string
	types              []string
	data               string // of a map
	interval, constant bool
	dynamic, expires   bool
	counters           bool
	timeout            string
}

// brief reports whether elements would be gone before they are read.
func (s textSet) brief() bool { return s.timeout == "500ms" || s.timeout == "10s" }

// ruleset is the text of one table, whose name tells the seed.
func ruleset(seed uint64) (family, name, text string) {
	g := newGrammar(seed)
	g.family = any1(g, "inet", "inet", "inet", "inet", "inet", "inet", "ip", "ip", "ip6", "ip6", "netdev", "bridge", "arp")
	g.plain = g.one(2)
	name = fmt.Sprintf("t%016x", seed)
	return g.family, name, "table " + g.family + " " + name + " {\n" + g.body() + "}\n"
}

// names are what a chain or set may be called; some are words of nft's in other
// places.
var names = []string{"a", "_under", "with-dash", "dot.ted", "sl/ash", "established", "unicast", "fe80", "deadbeef", "lo", "X1", "eth0", "ipv4_addr", "syn", "host", "z" + strings.Repeat("y", 60)}

func (g *grammar) body() string {
	var b strings.Builder
	if !g.plain && g.one(8) {
		fmt.Fprintf(&b, "\tcomment \"%s\"\n", g.comment())
	}
	if !g.plain && g.one(16) {
		b.WriteString("\tflags dormant\n")
	}
	free := slices.Clone(names)
	g.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	take := func() string {
		n := free[0]
		free = free[1:]
		return n
	}
	if !g.plain {
		for range g.IntN(3) {
			b.WriteString(g.declareObject(take()))
		}
	}
	var regular []string
	for range g.IntN(3) {
		regular = append(regular, take())
	}
	for range g.IntN(3) {
		b.WriteString(g.declareSet(take(), regular))
	}
	for range 1 + g.IntN(4)/3 {
		b.WriteString(g.baseChain(take(), regular))
	}
	for i, name := range regular {
		fmt.Fprintf(&b, "\tchain %s {\n%s%s\t}\n", name, g.chainComment(), g.rules(place{}, regular[i+1:], 2))
	}
	return b.String()
}

func (g *grammar) chainComment() string {
	if g.plain || !g.one(8) {
		return ""
	}
	return "\t\tcomment \"" + g.comment() + "\"\n"
}

func (g *grammar) declareObject(name string) string {
	kinds := []string{"counter", "quota", "limit"}
	if says(internet, g.family) {
		kinds = append(kinds, "ct helper", "ct timeout", "ct expectation", "synproxy")
	}
	kind := any1(g, kinds...)
	g.objects[kind] = append(g.objects[kind], name)
	l3 := "\n\t\tl3proto " + map[string]string{"inet": any1(g, "ip", "ip6"), "ip": "ip", "ip6": "ip6"}[g.family]
	body := map[string]string{
		"counter":        any1(g, "", "packets 7 bytes 99"),
		"quota":          any1(g, "over 10 mbytes", "1 kbytes used 3 bytes"),
		"limit":          any1(g, "rate 5/second", "rate over 1 mbytes/hour burst 3 kbytes"),
		"ct helper":      any1(g, `type "ftp" protocol tcp;`, `type "tftp" protocol udp;`) + l3,
		"ct timeout":     "protocol tcp;" + l3 + "\n\t\tpolicy = { established : 120, close : 20 }",
		"ct expectation": "protocol tcp\n\t\tdport 9876\n\t\ttimeout 1m\n\t\tsize 12" + l3,
		"synproxy":       any1(g, "mss 1460\n\t\twscale 9\n\t\ttimestamp sack-perm", "mss 1000\n\t\twscale 7"),
	}[kind]
	return fmt.Sprintf("\t%s %s {\n\t\t%s\n\t}\n", kind, name, body)
}

// declarable are the types that a declared set may be of; those that the model
// knows come first.
var declarable = []string{"ipv4_addr", "ipv6_addr", "inet_service", "inet_proto", "mark", "ifname", "uid", "gid", "ct_state", "fib_addrtype", "nf_proto", "iface_index",
	"ether_addr", "iface_type", "ct_dir", "ct_status", "icmp_type", "icmpv6_type", "icmp_code", "tcp_flag", "dccp_pkttype", "igmp_type", "arp_op", "ether_type",
	"pkt_type", "dscp", "ecn", "classid", "realm", "devgroup", "mh_type"}

const knownTypes = 12

func (g *grammar) declaredTypes() []string {
	types := declarable
	if g.plain {
		types = types[:knownTypes]
	}
	var out []string
	for range 1 + g.IntN(2)*g.IntN(3) {
		out = append(out, any1(g, types...))
	}
	return out
}

func (g *grammar) declareSet(name string, chains []string) string {
	s := textSet{name: name, types: g.declaredTypes()}
	if g.one(3) {
		s.data = "verdict"
		if !g.plain && g.one(2) {
			s.data = any1(g, "mark", "ipv4_addr", "inet_service", "mark")
		}
	}
	rangedKey := slices.ContainsFunc(s.types, ranged) || len(s.types) == 1 && s.types[0] == "ifname"
	s.interval = rangedKey && g.one(2)
	s.dynamic = !s.interval && s.data != "verdict" && g.one(4)
	if s.expires = g.one(4); s.expires && g.one(2) {
		s.timeout = any1(g, "1h", "500ms", "1d2h3m4s5ms", "10s", "30d")
	}
	s.constant = !s.dynamic && !s.expires && !g.plain && g.one(8)
	s.counters = g.one(5)
	kind := "set"
	lines := []string{g.keyOf(s)}
	if s.data != "" {
		kind = "map"
	}
	lines = append(lines, g.setOptions(s)...)
	if e := g.elementsOf(s, chains); e != "" {
		lines = append(lines, e)
	}
	g.sets = append(g.sets, s)
	return "\t" + kind + " " + name + " {\n\t\t" + strings.Join(lines, "\n\t\t") + "\n\t}\n"
}

// keyOf declares the key, by its types or by fields that have them.
func (g *grammar) keyOf(s textSet) string {
	data := ""
	if s.data != "" {
		data = " : " + s.data
	}
	if g.one(3) && (s.data == "" || s.data == "verdict") {
		if key, ok := g.reading(&place{hook: "prerouting"}, s.types); ok {
			return "typeof " + key + data
		}
	}
	return "type " + strings.Join(s.types, " . ") + data
}

func (g *grammar) setOptions(s textSet) (lines []string) {
	var flags []string
	for _, f := range []struct {
		on   bool
		name string
	}{{s.constant, "constant"}, {s.interval, "interval"}, {s.dynamic, "dynamic"}, {s.expires, "timeout"}} {
		if f.on {
			flags = append(flags, f.name)
		}
	}
	if len(flags) > 0 {
		lines = append(lines, "flags "+strings.Join(flags, ","))
	}
	if s.timeout != "" {
		lines = append(lines, "timeout "+s.timeout)
	}
	if s.expires && s.data == "" && g.one(4) {
		lines = append(lines, "gc-interval "+any1(g, "1m", "10s"))
	}
	if g.one(4) {
		lines = append(lines, "size "+any1(g, "64", "65535", "1000"))
	}
	if g.one(8) {
		lines = append(lines, "policy "+any1(g, "memory", "performance"))
	}
	if s.interval && s.data == "" && g.one(4) {
		lines = append(lines, "auto-merge")
	}
	if !g.plain && g.one(8) {
		lines = append(lines, `comment "`+g.comment()+`"`)
	}
	if s.counters {
		lines = append(lines, "counter")
	} else if s.data == "" && !g.plain && g.one(10) {
		lines = append(lines, any1(g, "limit rate 1/second", "quota 500 bytes", "counter limit rate 3/minute"))
	}
	return lines
}

func (g *grammar) elementsOf(s textSet, chains []string) string {
	elements := g.keys(s.types, g.IntN(5), s.interval)
	if !g.plain && g.one(8) {
		elements = append(elements, "*")
	}
	if len(elements) == 0 {
		return ""
	}
	for i := range elements {
		if s.counters && g.one(3) {
			elements[i] += " counter packets 5 bytes 77"
		}
		if s.expires && (s.brief() || g.one(3)) {
			elements[i] += " timeout " + any1(g, "1h", "2h500ms", "9d", "3h7ms")
		}
		if g.one(5) {
			elements[i] += ` comment "` + g.comment() + `"`
		}
		switch s.data {
		case "":
		case "verdict":
			elements[i] += " : " + g.verdict(chains)
		default:
			elements[i] += " : " + g.value(s.data)
		}
	}
	return "elements = { " + strings.Join(elements, any1(g, ", ", ",\n\t\t\t")) + " }"
}

// bases are the places of base chains by family.
var bases = map[string][]string{
	"inet":   {"filter prerouting", "filter input", "filter forward", "filter output", "filter postrouting", "filter ingress", "nat prerouting", "nat input", "nat output", "nat postrouting", "route output"},
	"ip":     {"filter prerouting", "filter input", "filter forward", "filter output", "filter postrouting", "nat prerouting", "nat input", "nat output", "nat postrouting", "route output"},
	"ip6":    {"filter prerouting", "filter input", "filter forward", "filter output", "filter postrouting", "nat prerouting", "nat input", "nat output", "nat postrouting", "route output"},
	"bridge": {"filter prerouting", "filter input", "filter forward", "filter output", "filter postrouting"},
	"arp":    {"filter input", "filter output"},
	"netdev": {"filter ingress", "filter egress"},
}

func (g *grammar) baseChain(name string, chains []string) string {
	words := strings.Fields(any1(g, bases[g.family]...))
	p := place{typ: words[0], hook: words[1]}
	p.priority = any1(g, -400, -300, -150, -100, 0, 10, 100, 2147483647)
	if p.typ == "nat" {
		p.priority = any1(g, -199, -100, 0, 100, 300)
	}
	priority := fmt.Sprint(p.priority)
	if p.priority == 0 && g.one(2) && g.family != "arp" {
		priority = any1(g, "filter", "filter + 0")
	}
	device := ""
	if p.hook == "ingress" || p.hook == "egress" {
		device = any1(g, ` device "lo"`, ` devices = { "lo" }`, ` devices = { "lo", "v0" }`, " device v0")
	}
	policy := any1(g, "", " policy accept;", " policy drop;")
	return fmt.Sprintf("\tchain %s {\n\t\ttype %s hook %s%s priority %s;%s\n%s%s\t}\n", name, p.typ, p.hook, device, priority, policy, g.chainComment(), g.rules(p, chains, 4))
}

func (g *grammar) rules(p place, chains []string, most int) string {
	var b strings.Builder
	for range g.IntN(most + 1) {
		if r := g.rule(p, chains); r != "" {
			b.WriteString("\t\t" + r + "\n")
		}
	}
	return b.String()
}

func (g *grammar) rule(p place, chains []string) string {
	var words []string
	add := func(text string) {
		if text != "" {
			words = append(words, text)
		}
	}
	for range g.IntN(4) {
		add(g.match(&p))
	}
	for range g.IntN(3) {
		if !p.ended {
			add(g.statement(&p))
		}
	}
	if !p.ended {
		switch g.IntN(4) {
		case 0, 1:
			if !g.plain && g.one(16) {
				words = append(words, any1(g, "jump", "goto")+" {\n\t\t\tcounter "+g.verdict(chains)+"\n\t\t}")
				return strings.Join(words, " ")
			}
			add(g.verdict(chains))
		case 2:
			add(g.vmap(&p, chains))
		}
	}
	if len(words) > 0 && g.one(3) {
		words = append(words, `comment "`+g.comment()+`"`)
	}
	return strings.Join(words, " ")
}
