// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// compareBytes fails where the kernel holds a rule otherwise once it was loaded
// from our text: what was lifted alike must be alike to the kernel too.
func (r *roundTrip) compareBytes(s script, lifted *rules.Table, before, after reading) {
	raw, again := before.raw[s.of()], after.raw[s.of()]
	rest, _ := knownPart(lifted)
	for _, c := range lifted.Chains {
		next := 0
		for i, rule := range c.Rules {
			if !comesBack(rest, rule) || next >= len(again[c.Name]) {
				continue
			}
			was, is := instructions(raw[c.Name][i].exprs), instructions(again[c.Name][next].exprs)
			next++
			if listsSingles(rule) {
				was = withoutTurns(was, is)
			}
			if was, is = withoutJoined(was, is); !slices.Equal(was, is) {
				s.fail(r, "chain %s rule %d, %s, is another program once it was loaded from our text\n--- was\n%s\n--- is\n%s", c.Name, i+1, rule,
					strings.Join(was, "\n"), strings.Join(is, "\n"))
			}
		}
	}
}

// listsSingles reports whether the rule has concatenations of single values within
// it. Where one was written as a prefix of one address, the kernel's set is one of
// ranges, for which other parts of the key are turned.
func listsSingles(rule rules.Rule) bool {
	single := func(e rules.Element) bool {
		return !slices.ContainsFunc(e.Key, func(r rules.Range) bool { return !r.Single() })
	}
	return slices.ContainsFunc(rule.Nodes, func(n rules.Node) bool {
		key, elements := []rules.Selector(nil), []rules.Element(nil)
		switch n := n.(type) {
		case rules.Match:
			key, elements = n.Key, n.Elements
		case rules.VMap:
			key, elements = n.Key, n.Elements
		}
		return len(key) > 1 && len(elements) > 0 && !slices.ContainsFunc(elements, func(e rules.Element) bool { return !single(e) })
	})
}

// withoutTurns leaves out of the first those changes of byte order that the second
// is without.
func withoutTurns(was, is []string) []string {
	kept := slices.Clone(is)
	return slices.DeleteFunc(slices.Clone(was), func(s string) bool {
		if i := slices.Index(kept, s); i >= 0 {
			kept = slices.Delete(kept, i, i+1)
			return false
		}
		return strings.HasPrefix(s, "byteorder ")
	})
}

// withoutJoined leaves out lists that became one range, as theirs meet, and these
// ranges.
func withoutJoined(was, is []string) ([]string, []string) {
	anonymous := func(s string) bool { return strings.HasPrefix(s, "lookup anonymous") }
	lists := len(slices.DeleteFunc(slices.Clone(was), func(s string) bool { return !anonymous(s) })) -
		len(slices.DeleteFunc(slices.Clone(is), func(s string) bool { return !anonymous(s) }))
	if lists <= 0 {
		return was, is
	}
	left := slices.Clone(was)
	joined := map[string]int{}
	is = slices.DeleteFunc(slices.Clone(is), func(s string) bool {
		if i := slices.Index(left, s); i >= 0 {
			left = slices.Delete(left, i, i+1)
			return false
		}
		word, _, _ := strings.Cut(s, " ")
		if word == "at" {
			word = strings.Join(strings.Fields(s)[:2], " ")
		}
		joined[word]++
		return true
	})
	if joined["at least"] != joined["at most"] || joined["not"]+joined["at least"] != lists || len(joined) > 3 {
		return was, is
	}
	kept := slices.Clone(is)
	was = slices.DeleteFunc(slices.Clone(was), func(s string) bool {
		if i := slices.Index(kept, s); i >= 0 {
			kept = slices.Delete(kept, i, i+1)
			return false
		}
		return anonymous(s)
	})
	return was, is
}

// instructions are the expressions of a rule in words, where equal ones mean the
// same. What counters have counted and how the kernel names anonymous sets is left
// out. A prefix is a range, and as nft is free where it puts a match that another
// implies, they are sorted.
func instructions(exprs [][]byte) []string {
	var out []string
	for i := 0; i < len(exprs); i++ {
		if i+1 < len(exprs) {
			if whole, lo, hi, op := firstBytes(exprs[i], exprs[i+1]); op != noPrefix {
				out = append(out, instruction(whole))
				out = append(out, bounds(lo, hi, op)...)
				i++
				continue
			}
			if lo, hi, op := prefixBounds(exprs[i], exprs[i+1]); op != noPrefix {
				out = append(out, bounds(lo, hi, op)...)
				i++
				continue
			}
		}
		if !sameValue(exprs[i]) {
			out = append(out, strings.Split(instruction(exprs[i]), ", ")...)
		}
	}
	slices.Sort(out)
	return out
}

func bounds(lo, hi []byte, op expr.CmpOp) []string {
	if op == expr.CmpOpNeq {
		return []string{fmt.Sprintf("not %x-%x", lo, hi)}
	}
	return []string{fmt.Sprintf("at least %x", lo), fmt.Sprintf("at most %x", hi)}
}

// addressAt is where the network header has addresses, and how long they are.
var addressAt = map[uint64]int{12: 4, 16: 4, 8: 16, 24: 16}

// firstBytes tells of a prefix that is whole bytes of an address, which nft reads alone:
// the load of all of the address, and its bounds.
func firstBytes(load, compare []byte) (whole, lo, hi []byte, op expr.CmpOp) {
	p, isPayload := dataOf(load, "payload")
	c, isCmp := dataOf(compare, "cmp")
	op = expr.CmpOp(c.Number(unix.NFTA_CMP_OP))
	lo = dataValue(c.Take(unix.NFTA_CMP_DATA))
	length := addressAt[p.Number(unix.NFTA_PAYLOAD_OFFSET)]
	if !isPayload || !isCmp || op != expr.CmpOpEq && op != expr.CmpOpNeq || c.Number(unix.NFTA_CMP_SREG) != firstRegister ||
		p.Number(unix.NFTA_PAYLOAD_DREG) != firstRegister || p.Number(unix.NFTA_PAYLOAD_BASE) != unix.NFT_PAYLOAD_NETWORK_HEADER ||
		p.Number(unix.NFTA_PAYLOAD_LEN) != uint64(len(lo)) || len(lo) >= length {
		return nil, nil, nil, noPrefix
	}
	whole = rewritten(load, func(_ string, inner []netlink.Attribute) []netlink.Attribute {
		for i, at := range inner {
			if at.Type == unix.NFTA_PAYLOAD_LEN {
				inner[i].Data = []byte{0, 0, 0, byte(length)}
			}
		}
		return inner
	})
	rest := length - len(lo)
	return whole, append(slices.Clone(lo), make([]byte, rest)...), append(slices.Clone(lo), bytes.Repeat([]byte{0xff}, rest)...), op
}

func instruction(raw []byte) string {
	a, err := nl.Decode(raw)
	if err != nil {
		return err.Error()
	}
	name := a.Text(unix.NFTA_EXPR_NAME)
	inner, _ := nl.Decode(a.Take(unix.NFTA_EXPR_DATA))
	switch name {
	case "counter":
		return name
	case "cmp":
		c := slices.Clone(inner)
		register, op, data := c.Number(unix.NFTA_CMP_SREG), expr.CmpOp(c.Number(unix.NFTA_CMP_OP)), dataValue(c.Take(unix.NFTA_CMP_DATA))
		switch {
		case register == firstRegister && op == expr.CmpOpGte:
			return fmt.Sprintf("at least %x", data)
		case register == firstRegister && op == expr.CmpOpLte:
			return fmt.Sprintf("at most %x", data)
		case register == firstRegister && op == expr.CmpOpNeq:
			return fmt.Sprintf("not %x-%x", data, data)
		case register == firstRegister && op == expr.CmpOpEq:
			return fmt.Sprintf("at least %x, at most %x", data, data)
		}
	}
	if c := slices.Clone(inner); name == "range" && c.Number(unix.NFTA_RANGE_SREG) == firstRegister && c.Number(unix.NFTA_RANGE_OP) == unix.NFT_RANGE_NEQ {
		return fmt.Sprintf("not %x-%x", dataValue(c.Take(unix.NFTA_RANGE_FROM_DATA)), dataValue(c.Take(unix.NFTA_RANGE_TO_DATA)))
	}
	out := name
	for _, at := range inner {
		if name == "lookup" && at.Type == unix.NFTA_LOOKUP_SET && strings.HasPrefix(string(at.Data), "__") {
			out += " anonymous"
			continue
		}
		out += fmt.Sprintf(" %d:%x", at.Type, at.Data)
	}
	return out
}

// sameValue reports whether an expression changes nothing: our text puts a mask of
// all ones between two ports, for nft not to make one comparison of them, and nft
// turns the order of a single byte where a list may hold ranges.
func sameValue(raw []byte) bool {
	if o, ok := dataOf(raw, "byteorder"); ok && o.Number(unix.NFTA_BYTEORDER_SREG) == o.Number(unix.NFTA_BYTEORDER_DREG) {
		return o.Number(unix.NFTA_BYTEORDER_LEN) == 1
	}
	b, ok := dataOf(raw, "bitwise")
	return ok && b.Number(unix.NFTA_BITWISE_SREG) == b.Number(unix.NFTA_BITWISE_DREG) && b.Number(nftaBitwiseOp) == 0 &&
		allOnes(rules.Bits(dataValue(b.Take(unix.NFTA_BITWISE_MASK)))) && allZeros(dataValue(b.Take(unix.NFTA_BITWISE_XOR)))
}

const noPrefix = ^expr.CmpOp(0)

// prefixBounds are the bounds of a prefix that two expressions match or exclude, a
// mask and a comparison, and which of both.
func prefixBounds(mask, compare []byte) (lo, hi []byte, op expr.CmpOp) {
	b, bitwise := dataOf(mask, "bitwise")
	c, cmp := dataOf(compare, "cmp")
	op = expr.CmpOp(c.Number(unix.NFTA_CMP_OP))
	if !bitwise || !cmp || op != expr.CmpOpEq && op != expr.CmpOpNeq || c.Number(unix.NFTA_CMP_SREG) != firstRegister {
		return nil, nil, noPrefix
	}
	m, x, v := dataValue(b.Take(unix.NFTA_BITWISE_MASK)), dataValue(b.Take(unix.NFTA_BITWISE_XOR)), dataValue(c.Take(unix.NFTA_CMP_DATA))
	if len(m) != len(v) || !allZeros(x) || len(m) < 4 {
		return nil, nil, noPrefix
	}
	ones := 0
	for ones < len(m)*8 && m[ones/8]&(0x80>>(ones%8)) != 0 {
		ones++
	}
	if string(prefixMask(ones, len(m))) != string(m) {
		return nil, nil, noPrefix
	}
	hi = slices.Clone(v)
	for i := range hi {
		hi[i] |= ^m[i]
	}
	return v, hi, op
}
