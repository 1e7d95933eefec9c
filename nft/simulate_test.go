// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// dumped is a table as it would be lifted from the dumps of a kernel that took
// the messages that lower makes of it. Kernel tests hold it to what a kernel
// does.
func dumped(t testing.TB, table *rules.Table) *rules.Table {
	t.Helper()
	b := &batch{}
	l := lower(b, table)
	l.addTable()
	l.addAll(table, nil)
	k := &fakeKernel{sets: map[string]*rules.Set{}, elements: map[*rules.Set][]element{}}
	k.table.Name = table.Name
	for _, ch := range b.changes {
		a, err := nl.Decode(ch.data)
		if err != nil {
			t.Fatalf("%s: %v", ch.where, err)
		}
		if err := k.take(ch.typ, a); err != nil {
			t.Fatalf("%s: %v", ch.where, err)
		}
	}
	return k.lifted()
}

type fakeKernel struct {
	table    rules.Table
	sets     map[string]*rules.Set // by name, anonymous ones by a name made of their number
	elements map[*rules.Set][]element
	rules    []fakeRule
}

type fakeRule struct {
	chain *rules.Chain
	attrs nl.Attributes
	exprs [][]byte
}

func (k *fakeKernel) take(typ int, a nl.Attributes) (err error) {
	switch typ {
	case unix.NFT_MSG_NEWCHAIN:
		c := &rules.Chain{Name: a.Text(unix.NFTA_CHAIN_NAME)}
		if hook := a.Take(unix.NFTA_CHAIN_HOOK); hook != nil {
			c.Base, err = liftBase(unix.NFPROTO_INET, a, hook)
		}
		k.table.Chains = append(k.table.Chains, c)
	case unix.NFT_MSG_NEWSET:
		id := a.Number(unix.NFTA_SET_ID)
		s := liftSet(a)
		if strings.HasSuffix(s.Name, "%d") {
			k.sets[numbered(s.Name, id)], s.Name = s, ""
		} else {
			k.table.Sets, k.sets[s.Name] = append(k.table.Sets, s), s
		}
	case unix.NFT_MSG_NEWSETELEM:
		s := k.sets[numbered(a.Text(unix.NFTA_SET_ELEM_LIST_SET), a.Number(unix.NFTA_SET_ELEM_LIST_SET_ID))]
		more, err := liftElements(a.Take(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
		if err != nil || s == nil {
			return fmt.Errorf("elements: %v, set %v", err, s)
		}
		k.elements[s] = append(k.elements[s], more...)
	case unix.NFT_MSG_NEWRULE:
		r := fakeRule{chain: k.table.Chain(a.Text(unix.NFTA_RULE_CHAIN)), attrs: a}
		items, err := list(a.Take(unix.NFTA_RULE_EXPRESSIONS))
		if err != nil || r.chain == nil {
			return fmt.Errorf("expressions: %v, chain %v", err, r.chain)
		}
		for _, it := range items {
			r.exprs = append(r.exprs, asDumped(it))
		}
		k.rules = append(k.rules, r)
	}
	return err
}

func numbered(name string, id uint64) string {
	return strings.Replace(name, "%d", fmt.Sprint(id), 1)
}

func (k *fakeKernel) lifted() *rules.Table {
	for s, raw := range k.elements {
		joinElements(s, raw)
	}
	for _, r := range k.rules {
		r.chain.Add(liftReason(r.attrs), liftRule(r.exprs, k.sets, 0)...)
	}
	return &k.table
}

// asDumped is an expression as the kernel gives it back: a lookup by the set's
// real name, a redirect with both registers.
func asDumped(raw []byte) []byte {
	return rewritten(raw, func(name string, inner []netlink.Attribute) []netlink.Attribute {
		a, _ := nl.Decode(marshalAttributes(inner))
		switch {
		case name == "lookup":
			for i, at := range inner {
				if at.Type == unix.NFTA_LOOKUP_SET {
					inner[i].Data = append([]byte(numbered(nl.Text(at.Data), a.Number(unix.NFTA_LOOKUP_SET_ID))), 0)
				}
			}
		case name == "redir" && a.Has(unix.NFTA_REDIR_REG_PROTO_MIN) && !a.Has(unix.NFTA_REDIR_REG_PROTO_MAX):
			inner = append(inner, netlink.Attribute{Type: unix.NFTA_REDIR_REG_PROTO_MAX, Data: a.Take(unix.NFTA_REDIR_REG_PROTO_MIN)})
		}
		return inner
	})
}

// rewritten is an expression with other attributes.
func rewritten(raw []byte, change func(name string, inner []netlink.Attribute) []netlink.Attribute) []byte {
	outer, err := netlink.UnmarshalAttributes(raw)
	if err != nil {
		panic(err)
	}
	name := ""
	for i, at := range outer {
		switch at.Type &^ unix.NLA_F_NESTED {
		case unix.NFTA_EXPR_NAME:
			name = nl.Text(at.Data)
		case unix.NFTA_EXPR_DATA:
			inner, err := netlink.UnmarshalAttributes(at.Data)
			if err != nil {
				panic(err)
			}
			outer[i].Data = marshalAttributes(change(name, inner))
		}
	}
	return marshalAttributes(outer)
}

func marshalAttributes(list []netlink.Attribute) []byte {
	for i := range list {
		list[i].Length = 0 // whatever it was: to be counted anew
	}
	b, err := netlink.MarshalAttributes(list)
	if err != nil {
		panic(err)
	}
	return b
}
