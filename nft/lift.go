// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"strings"

	"github.com/google/nftables/expr"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// lifter turns the expressions of one rule back into nodes. It follows what
// each register holds; a run of expressions that makes no node it knows becomes
// an opaque one, so that nothing is ever dropped.
type lifter struct {
	sets      map[string]*rules.Set // by the names in lookups; an anonymous one's own name is empty
	registers [registerWords]*operand
	loads     []*operand
	known     known
	nodes     []rules.Node
	read      int          // how many expressions
	pending   []expression // of them, since the last node
	lower     *operand     // has met the lower end of a range; the upper must follow
}

type expression struct {
	name string
	of   string // the extension of xtables that it calls, such as DNAT
	raw  []byte
}

// liftRule lifts a list of expressions. Family is that of the table's packets, 0
// where it sees several.
func liftRule(exprs [][]byte, sets map[string]*rules.Set, family rules.Family) []rules.Node {
	l := &lifter{sets: sets, known: known{family: family}}
	for _, raw := range exprs {
		a, err := nl.Decode(raw)
		if err != nil {
			l.take(expression{name: "undecodable", raw: raw})
			l.unknown()
			continue
		}
		e := expression{name: a.Text(unix.NFTA_EXPR_NAME), raw: raw}
		inner, err := nl.Decode(a.Take(unix.NFTA_EXPR_DATA))
		if e.name == "target" || e.name == "match" {
			const extension = 1 // NFTA_TARGET_NAME, NFTA_MATCH_NAME
			e.of = inner.Text(extension)
		}
		if l.lower != nil && e.name != "cmp" {
			l.unknown()
		}
		l.take(e)
		if err != nil || !l.expression(e, inner) {
			l.unknown()
		}
	}
	l.finish()
	return l.nodes
}

func (l *lifter) take(e expression) {
	l.read++
	l.pending = append(l.pending, e)
}

func (l *lifter) node(n rules.Node) bool {
	l.nodes = append(l.nodes, n)
	l.pending = nil
	return true
}

// unknown makes an opaque node of what is pending, and forgets what the
// registers held.
func (l *lifter) unknown() {
	l.registers = [registerWords]*operand{}
	l.lower = nil
	l.nodes = append(l.nodes, opaque(l.pending))
	for _, o := range l.loads {
		o.used = o.used || o.order > l.read-len(l.pending) // it is part of the opaque node
	}
	l.pending = nil
}

func opaque(exprs []expression) rules.Opaque {
	var names []string
	var raw []byte
	for _, e := range exprs {
		names = append(names, strings.TrimSpace(e.name+" "+e.of))
		raw = attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, data: e.raw}.appendTo(raw)
	}
	return rules.Opaque{Name: strings.Join(names, " "), Raw: rules.Bits(raw)}
}

// finish turns reads that nothing used into opaque nodes: even an unused read
// can end a rule, where the packet has no such field.
func (l *lifter) finish() {
	if len(l.pending) > 0 {
		l.unknown()
	}
	for _, o := range l.loads {
		if !o.used {
			l.nodes = append(l.nodes, opaque([]expression{o.from}))
		}
	}
}

// expression takes one expression in; false means that it, or the way it is
// used, is not known.
func (l *lifter) expression(e expression, a nl.Attributes) bool {
	switch e.name {
	case "meta":
		if a.Has(unix.NFTA_META_SREG) {
			key, found := keyOf(metas, expr.MetaKey(a.Number(unix.NFTA_META_KEY)))
			return l.assign(key, uint32(a.Number(unix.NFTA_META_SREG)), found && a.AllTaken())
		}
		return l.load(e, a)
	case "ct":
		if a.Has(unix.NFTA_CT_SREG) {
			key, found := ctSelector(a)
			return l.assign(key, uint32(a.Number(unix.NFTA_CT_SREG)), found && a.AllTaken())
		}
		return l.load(e, a)
	case "payload":
		if a.Has(unix.NFTA_PAYLOAD_SREG) {
			return l.rewrite(a)
		}
		return l.load(e, a)
	case "fib", "socket":
		return l.load(e, a)
	case "bitwise":
		return l.bitwise(a)
	case "byteorder":
		return l.byteorder(a)
	case "cmp":
		return l.cmp(a)
	case "range":
		return l.span(a)
	case "lookup":
		return l.lookup(a)
	case "immediate":
		return l.immediate(e, a)
	case "counter":
		return l.node(rules.Counter{Packets: a.Number(unix.NFTA_COUNTER_PACKETS), Bytes: a.Number(unix.NFTA_COUNTER_BYTES)})
	case "redir":
		return l.redirect(a)
	case "nat":
		return l.nat(a)
	case "tproxy":
		return l.tproxy(a)
	case "reject":
		return l.reject(a)
	case "log":
		return l.log(a)
	case "dynset":
		return l.dynset(a)
	case "notrack":
		return a.AllTaken() && l.node(rules.NoTrack{})
	}
	return false
}

func (l *lifter) reject(a nl.Attributes) bool {
	kind, code := a.Number(unix.NFTA_REJECT_TYPE), a.Number(unix.NFTA_REJECT_ICMP_CODE)
	switch {
	case !a.AllTaken():
		return false
	case kind == unix.NFT_REJECT_ICMPX_UNREACH && code == unix.NFT_REJECT_ICMPX_PORT_UNREACH:
		return l.node(rules.Reject{Unreachable: true})
	case kind == unix.NFT_REJECT_TCP_RST && code == 0 && l.known.proto == rules.TCP:
		return l.node(rules.Reject{})
	}
	return false
}

func (l *lifter) load(e expression, a nl.Attributes) bool {
	s, register, bytes, ok := loaded(e.name, a, l.known)
	if !ok {
		return false
	}
	o := &operand{selector: s, bytes: bytes, from: e}
	return l.set(register, o)
}

func (l *lifter) bitwise(a nl.Attributes) bool {
	src, dst := a.Number(unix.NFTA_BITWISE_SREG), a.Number(unix.NFTA_BITWISE_DREG)
	length, op := a.Number(unix.NFTA_BITWISE_LEN), a.Number(nftaBitwiseOp)
	mask, xor := dataValue(a.Take(unix.NFTA_BITWISE_MASK)), dataValue(a.Take(unix.NFTA_BITWISE_XOR))
	o, ok := l.get(uint32(src))
	if !ok || src != dst || op != 0 || !a.AllTaken() || o.mask != nil || o.turned || o.selector == 0 ||
		int(length) != o.length() || len(mask) != o.length() || len(xor) != o.length() {
		return false
	}
	o.mask, o.xor = mask, xor
	o.used = false
	return true
}

func (l *lifter) byteorder(a nl.Attributes) bool {
	src, dst := a.Number(unix.NFTA_BYTEORDER_SREG), a.Number(unix.NFTA_BYTEORDER_DREG)
	op, length, size := a.Number(unix.NFTA_BYTEORDER_OP), a.Number(unix.NFTA_BYTEORDER_LEN), a.Number(unix.NFTA_BYTEORDER_SIZE)
	o, ok := l.get(uint32(src))
	if !ok || src != dst || op != unix.NFT_BYTEORDER_HTON || !a.AllTaken() || o.turned || o.selector == 0 || int(length) != o.length() {
		return false
	}
	o.used = false
	if length == 1 {
		return size == 2 // nft 1.0.6 turns a single byte in a concatenation: nothing changes
	}
	o.turned = o.selector.Type().HostOrder() && length == size
	return o.turned
}
