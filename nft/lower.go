// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// lowering turns a table into the messages of a batch.
type lowering struct {
	*batch
	table  string
	sets   map[string]*rules.Set
	nextID uint32 // of anonymous sets, within the batch
}

func lower(b *batch, t *rules.Table) *lowering {
	l := &lowering{batch: b, table: t.Name, sets: map[string]*rules.Set{}}
	for _, s := range t.Sets {
		l.sets[s.Name] = s
	}
	return l
}

// object starts the attributes of every message: nf_tables numbers the table's
// name 1 throughout.
func (l *lowering) object(fill func(*netlink.AttributeEncoder)) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, l.table)
		if fill != nil {
			fill(ae)
		}
	})
}

func (l *lowering) addTable() {
	l.add(newTable(l, 0, netlink.Create))
}

func (l *lowering) deleteTable() {
	l.add(change{typ: unix.NFT_MSG_DELTABLE, where: "table inet " + l.table, kind: "table", data: l.object(nil)})
}

// addAll adds sets, chains and rules to the table; sets that skip names are
// there already.
func (l *lowering) addAll(t *rules.Table, skip func(*rules.Set) bool) {
	for _, c := range t.Chains {
		l.addChain(c)
	}
	for _, s := range t.Sets {
		if skip == nil || !skip(s) {
			l.addSet(s)
			l.addElements(s, s.Elements)
		}
	}
	for _, c := range t.Chains {
		for i, r := range c.Rules {
			l.addRule(c.Name, i, r)
		}
	}
}

func (l *lowering) addChain(c *rules.Chain) {
	kind := "chain"
	data := l.object(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_NAME, c.Name)
		if b := c.Base; b != nil {
			nested(ae, unix.NFTA_CHAIN_HOOK, func(ae *netlink.AttributeEncoder) { hookAttrs(ae, b) })
			policy := uint32(1) // NF_ACCEPT
			if b.Drop {
				policy = 0
			}
			ae.Uint32(unix.NFTA_CHAIN_POLICY, policy)
			ae.String(unix.NFTA_CHAIN_TYPE, string(b.Type))
		}
	})
	if c.Base != nil && c.Base.Type == rules.NATType {
		kind = "nat"
	}
	l.add(change{typ: unix.NFT_MSG_NEWCHAIN, flags: netlink.Create, where: "chain " + c.Name, kind: kind, data: data})
}

func hookAttrs(ae *netlink.AttributeEncoder, b *rules.Base) {
	ae.Uint32(unix.NFTA_HOOK_HOOKNUM, uint32(b.Hook))
	ae.Uint32(unix.NFTA_HOOK_PRIORITY, uint32(b.Priority))
	if len(b.Devices) > 0 {
		nested(ae, nftaHookDevs, func(ae *netlink.AttributeEncoder) {
			for _, d := range b.Devices {
				ae.String(nftaDeviceName, d)
			}
		})
	}
}

func (l *lowering) flushChain(name string) {
	l.add(change{typ: unix.NFT_MSG_DELRULE, where: "chain " + name, kind: "chain",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_RULE_CHAIN, name) })})
}

func (l *lowering) deleteChain(name string) {
	l.add(change{typ: unix.NFT_MSG_DELCHAIN, where: "chain " + name, kind: "chain",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_CHAIN_NAME, name) })})
}

func (l *lowering) addRule(chain string, index int, r rules.Rule) {
	where := fmt.Sprintf("chain %s rule %d", chain, index+1)
	if r.Reason != "" {
		where += fmt.Sprintf(" %q", r.Reason)
	}
	w := &ruleWriter{lowering: l, where: where}
	for _, n := range r.Nodes {
		w.node(n)
	}
	data := l.object(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_CHAIN, chain)
		ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_RULE_EXPRESSIONS, w.list)
		if r.Reason != "" {
			ae.Bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.Reason))
		}
	})
	l.add(change{typ: unix.NFT_MSG_NEWRULE, flags: netlink.Create | netlink.Append, where: where, kind: "rule", exprs: w.names, data: data})
}

// ruleWriter lowers one rule, as nft does: a protocol or family that a selector
// implies is matched where nothing before settled it.
type ruleWriter struct {
	*lowering
	where string
	known known
	held  []rules.Selector // what the registers hold, from the first on, as it was loaded
	names []string
	list  []byte // NFTA_LIST_ELEM attributes, one an expression
}

func (w *ruleWriter) emit(exprs ...expr.Any) {
	for _, e := range exprs {
		w.raw(marshal(e))
	}
}

func (w *ruleWriter) raw(data []byte) {
	w.list = attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, data: data}.appendTo(w.list)
	if a, err := nl.Decode(data); err == nil {
		w.names = append(w.names, a.Text(unix.NFTA_EXPR_NAME))
	}
}

func marshal(e expr.Any) []byte {
	if ct, ok := e.(originalCt); ok {
		return ct.encode()
	}
	b, err := expr.Marshal(unix.NFPROTO_INET, e)
	if err != nil {
		panic(fmt.Sprintf("nft: marshal %T: %v", e, err)) // attributes of fixed size always fit
	}
	return b
}

func (w *ruleWriter) node(n rules.Node) {
	switch n := n.(type) {
	case rules.Match:
		w.match(n)
		return
	case rules.Dynset:
		w.dynset(n)
		return
	}
	w.held = nil
	switch n := n.(type) {
	case rules.VMap:
		w.vmap(n)
	case rules.Verdict:
		w.emit(&expr.Verdict{Kind: expr.VerdictKind(verdictCodes[n.Kind]), Chain: n.Chain})
	case rules.Counter:
		w.emit(&expr.Counter{Packets: n.Packets, Bytes: n.Bytes})
	case rules.Redirect:
		w.redirect(n)
	case rules.SNAT:
		w.snat(n)
	case rules.DNAT:
		w.dnat(n)
	case rules.TProxy:
		w.tproxy(n)
	case rules.Reject:
		if n.Unreachable {
			w.emit(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
		} else {
			w.emit(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
		}
	case rules.Assign:
		w.assign(n)
	case rules.Log:
		w.raw(marshalLog(n))
	case rules.NoTrack:
		w.emit(&expr.Notrack{})
	case rules.Opaque:
		w.opaque(n)
	}
}

const (
	firstRegister  = unix.NFT_REG_1
	secondRegister = unix.NFT_REG_2
)

// partRegister is the register of a concatenation's part that starts at a byte
// offset.
func partRegister(offset int) uint32 {
	if offset == 0 {
		return firstRegister
	}
	return unix.NFT_REG32_00 + uint32(offset/4)
}

// settle matches what the selectors imply.
func (w *ruleWriter) settle(key []rules.Selector) {
	for _, s := range key {
		if f := s.Family(); f != 0 && f != w.known.family {
			w.known.family, w.held = f, nil
			w.emit(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: firstRegister}, equal([]byte{byte(f)}))
		}
	}
	for _, s := range key {
		if p := s.Proto(); p != 0 && p != w.known.proto {
			w.known.proto, w.held = p, nil
			w.emit(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister}, equal([]byte{byte(p)}))
		}
	}
}
