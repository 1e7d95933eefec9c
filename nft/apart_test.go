// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// TestNoBitIsLost flips each bit of what the rows of the completeness test are to
// the kernel. What differs there is never lifted as the same: as a rule it is
// another, or something in it is unknown.
func TestNoBitIsLost(t *testing.T) {
	mutants := 0
	for _, r := range allRows(t) {
		exprs, sets := r.lowered(t)
		want := lifted(exprs, sets, 0)
		for e, raw := range exprs {
			if isCounter(raw) {
				continue
			}
			for i, at := range leaves(raw, 0) {
				mutant := bytes.Clone(raw)
				mutant[at] ^= 1 << ((i + e) % 8)
				exprs[e] = mutant
				mutants++
				if lifted(exprs, sets, 0) == want {
					t.Errorf("%s: %s is lifted as the same with bit %d of byte %d flipped in %q", r.why, rules.Rule{Nodes: r.nodes}, (i+e)%8, at, raw)
				}
			}
			exprs[e] = raw
		}
	}
	if mutants < 1000 {
		t.Errorf("only %d bits were flipped", mutants)
	}
	t.Logf("%d bits", mutants)
}

// TestUnusedReadIsSaid: a read ends the rule where the packet has no such field,
// whether or not something uses it.
func TestUnusedReadIsSaid(t *testing.T) {
	read := func(register uint32) []byte { return marshal(&expr.Meta{Key: expr.MetaKeyIIF, Register: register}) }
	mark := marshal(&expr.Meta{Key: expr.MetaKeyMARK, Register: firstRegister})
	is := marshal(equal([]byte{1, 0, 0, 0}))
	count, log := marshal(&expr.Counter{}), marshal(&expr.Log{})
	const unused = unix.NFT_REG32_05
	for _, tt := range []struct {
		why   string
		exprs [][]byte
		want  int // opaque nodes
	}{
		{"alone", [][]byte{read(unused)}, 1},
		{"at the end", [][]byte{mark, is, count, read(unused)}, 1},
		{"before what is known", [][]byte{read(unused), mark, is, count}, 1},
		{"before what is known and what is not", [][]byte{read(unused), mark, is, log}, 2},
		{"with what is not known", [][]byte{mark, is, read(unused), log, count}, 1},
		{"before another", [][]byte{read(unused), mark, is, read(unused)}, 2},
		{"written over", [][]byte{read(firstRegister), mark, is}, 1},
		{"within a range", [][]byte{mark, marshal(&expr.Cmp{Op: expr.CmpOpGte, Register: firstRegister, Data: []byte{1, 0, 0, 0}}), read(unused), count}, 2},
		{"none", [][]byte{mark, is, count}, 0},
	} {
		nodes := liftRule(tt.exprs, nil, 0)
		got := 0
		for _, n := range nodes {
			if _, opaque := n.(rules.Opaque); opaque {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%s: %d opaque nodes in %q, want %d", tt.why, got, rules.Rule{Nodes: nodes}, tt.want)
		}
	}
}

// lowered are the expressions of the row's rule, and the sets that they look up.
func (r row) lowered(t *testing.T) ([][]byte, map[string]*rules.Set) {
	table := r.state().Normal().Table
	b := &batch{}
	l := lower(b, table)
	w := &ruleWriter{lowering: l}
	sets := map[string]*rules.Set{}
	for _, s := range table.Sets {
		sets[s.Name] = s
	}
	for _, c := range table.Chains {
		for _, rule := range c.Rules {
			for _, n := range rule.Nodes {
				switch n := n.(type) {
				case rules.Match:
					if n.Anonymous() {
						sets["__set%d"] = anonymousSet(n.Types(), n.Elements)
					}
				case rules.VMap:
					if n.Map == "" {
						sets["__map%d"] = anonymousSet(n.Types(), n.Elements)
					}
				}
				w.node(n)
			}
		}
	}
	exprs, err := list(w.list)
	if err != nil {
		t.Fatal(err)
	}
	for i := range exprs {
		exprs[i] = withoutSetID(bothBounds(exprs[i]))
	}
	return exprs, sets
}

// bothBounds is a translation as the kernel gives it back, with both registers.
func bothBounds(raw []byte) []byte {
	return rewritten(raw, func(name string, inner []netlink.Attribute) []netlink.Attribute {
		a, _ := nl.Decode(marshalAttributes(inner))
		switch {
		case name == "redir" && a.Has(unix.NFTA_REDIR_REG_PROTO_MIN) && !a.Has(unix.NFTA_REDIR_REG_PROTO_MAX):
			inner = append(inner, netlink.Attribute{Type: unix.NFTA_REDIR_REG_PROTO_MAX, Data: a.Take(unix.NFTA_REDIR_REG_PROTO_MIN)})
		case name == "nat" && !a.Has(unix.NFTA_NAT_REG_ADDR_MAX):
			inner = append(inner, netlink.Attribute{Type: unix.NFTA_NAT_REG_ADDR_MAX, Data: a.Take(unix.NFTA_NAT_REG_ADDR_MIN)})
		}
		return inner
	})
}

// withoutSetID leaves out what names a set within its batch alone.
func withoutSetID(raw []byte) []byte {
	return rewritten(raw, func(name string, inner []netlink.Attribute) []netlink.Attribute {
		return slices.DeleteFunc(inner, func(at netlink.Attribute) bool { return name == "lookup" && at.Type == unix.NFTA_LOOKUP_SET_ID })
	})
}

func isCounter(raw []byte) bool {
	_, ok := dataOf(raw, "counter")
	return ok
}

// lifted tells rules apart as a comparison does.
func lifted(exprs [][]byte, sets map[string]*rules.Set, family rules.Family) string {
	rule := rules.Rule{Nodes: liftRule(exprs, sets, family)}
	table := &rules.Table{Name: "t", Chains: []*rules.Chain{{Name: "c", Rules: []rules.Rule{rule}}}}
	text := rules.State{Table: table}.Hash() + " " + rule.String()
	return text
}

// leaves are the places of bytes that are values, not headers or padding.
func leaves(b []byte, from int) (out []int) {
	for at := 0; at+nl.AttributeHeader <= len(b); {
		length := int(binary.NativeEndian.Uint16(b[at:]))
		if length < nl.AttributeHeader || at+length > len(b) {
			return out
		}
		data := b[at+nl.AttributeHeader : at+length]
		if nestedLeaf(data) {
			out = append(out, leaves(data, from+at+nl.AttributeHeader)...)
		} else {
			for i := range data {
				out = append(out, from+at+nl.AttributeHeader+i)
			}
		}
		at += nl.Align(length)
	}
	return out
}

// nestedLeaf reports whether data can only be a list of attributes.
func nestedLeaf(data []byte) bool {
	if len(data) < 2*nl.AttributeHeader {
		return false
	}
	sound := true
	err := nl.Walk(data, func(typ uint16, _ []byte) { sound = sound && typ < 64 })
	return err == nil && sound
}

func dataOf(raw []byte, name string) (nl.Attributes, bool) {
	a, err := nl.Decode(raw)
	if err != nil || a.Text(unix.NFTA_EXPR_NAME) != name {
		return nil, false
	}
	inner, err := nl.Decode(a.Take(unix.NFTA_EXPR_DATA))
	return inner, err == nil
}
