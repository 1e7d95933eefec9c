// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
)

// String is the rule as nft writes it, its reason as the comment.
func (r Rule) String() string {
	p := &printer{}
	words := make([]string, 0, len(r.Nodes)+1)
	for _, n := range r.Nodes {
		words = append(words, n.text(p))
	}
	if r.Reason != "" {
		words = append(words, "comment "+quote(r.Reason))
	}
	return strings.Join(words, " ")
}

func joinSelectors(key []Selector) string {
	words := make([]string, len(key))
	for i, s := range key {
		words[i] = s.String()
	}
	return strings.Join(words, " . ")
}

func (m Match) text(p *printer) string {
	key := joinSelectors(m.Key)
	named := len(m.Key) == 1 && m.Key[0].Type().bitmask()
	value, one := m.single()
	if named && m.Negated && one && m.Mask != "" && value == zeros(len(value)) {
		// any of these: a plain list, to nft
		return key + " " + strings.ReplaceAll(m.Key[0].Type().Format(m.Mask), " | ", ",")
	}
	if one && len(m.Key) == 1 && m.Key[0].Type() == inetService && p.again() && m.Mask == "" {
		m.Mask = ones(len(value))
	}
	op := " "
	switch {
	case m.Negated:
		op = " != "
	case m.Mask != "" || named && one:
		op = " == "
	}
	if m.Mask != "" && len(m.Key) == 1 {
		key += " & " + maskText(m.Key[0].Type(), m.Mask)
	}
	if m.Set != "" {
		return key + op + "@" + escape.Text(m.Set)
	}
	values := elementTexts(m.Elements, m.Types())
	if len(values) == 1 && !m.Anonymous() {
		return key + op + values[0]
	}
	return key + op + "{ " + strings.Join(values, ", ") + " }"
}

// again reports whether the rule has compared a port before. nft 1.0.6 makes
// one comparison of two ports, across whatever stands between them and even of
// two `!=`, unless one is under a mask.
func (p *printer) again() bool {
	if p == nil {
		return false
	}
	defer func() { p.ports++ }()
	return p.ports > 0
}

func maskText(typ DataType, mask Bits) string {
	text := typ.Format(mask)
	if strings.Contains(text, "|") {
		return "(" + text + ")"
	}
	return text
}

func elementTexts(elements []Element, types []DataType) []string {
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = e.Text(types)
	}
	return words
}

func (v Verdict) text(*printer) string {
	if v.Chain != "" {
		return v.Kind.String() + " " + escape.Text(v.Chain)
	}
	return v.Kind.String()
}

func (v VMap) text(*printer) string {
	key := joinSelectors(v.Key) + " vmap "
	if v.Map != "" {
		return key + "@" + escape.Text(v.Map)
	}
	return key + "{ " + strings.Join(elementTexts(v.Elements, v.Types()), ", ") + " }"
}

func (Counter) text(*printer) string { return "counter" }

func (r Redirect) text(*printer) string {
	if r.Ports == nil {
		return "redirect"
	}
	return "redirect to :" + inetService.FormatRange(*r.Ports)
}

func (n SNAT) text(*printer) string { return "snat " + familyWord(n.To) + " to " + n.To.String() }

func (n DNAT) text(*printer) string {
	to := n.To.String()
	if n.Port != 0 {
		to = netip.AddrPortFrom(n.To, uint16(n.Port)).String()
	}
	return "dnat " + familyWord(n.To) + " to " + to
}

// familyWord is what nft wants before an address to map to.
func familyWord(a netip.Addr) string {
	if AddressFamily(a) == IPv6 {
		return "ip6"
	}
	return "ip"
}

func (t TProxy) text(*printer) string {
	family, addr := "", ""
	switch t.Family {
	case IPv4:
		family = "ip "
		if t.Addr != "" {
			addr = ipv4Addr.Format(t.Addr)
		}
	case IPv6:
		family = "ip6 "
		if t.Addr != "" {
			addr = "[" + ipv6Addr.Format(t.Addr) + "]"
		}
	}
	if t.Port == 0 {
		return "tproxy " + family + "to " + addr
	}
	return fmt.Sprintf("tproxy %sto %s:%d", family, addr, t.Port)
}

func (r Reject) text(*printer) string {
	if r.Unreachable {
		return "reject with icmpx type port-unreachable"
	}
	return "reject with tcp reset"
}

func (a Assign) text(*printer) string {
	typ := a.To.Type()
	set := a.To.String() + " set "
	if a.From == 0 {
		return set + typ.Format(a.Xor)
	}
	value := a.From.String()
	if a.Mask != ones(len(a.Mask)) {
		value += " & " + typ.Format(a.Mask)
	}
	if a.Xor == zeros(len(a.Xor)) {
		return set + value
	}
	op := " | "
	if a.Mask.Uint64()&a.Xor.Uint64() != 0 {
		op = " ^ "
	}
	return set + value + op + typ.Format(a.Xor)
}

func (l Log) text(*printer) string {
	text := fmt.Sprintf("log group %d", l.Group)
	if l.Snaplen > 0 {
		text += fmt.Sprintf(" snaplen %d", l.Snaplen)
	}
	return text
}

func (d Dynset) text(*printer) string {
	verb, timeout := "add", ""
	if d.Update {
		verb = "update"
	}
	if d.Timeout > 0 {
		timeout = " timeout " + nftDuration(d.Timeout)
	}
	return fmt.Sprintf("%s @%s { %s%s }", verb, escape.Text(d.Set), joinSelectors(d.Key), timeout)
}

func (NoTrack) text(*printer) string  { return "notrack" }
func (o Opaque) text(*printer) string { return unknown(o.Name) }

// unknown names what the model does not know. nft refuses a script that holds it:
// without that part it would load another ruleset.
func unknown(what string) string { return "<unknown: " + escape.Text(what) + ">" }
