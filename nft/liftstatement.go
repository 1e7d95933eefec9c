// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

func (l *lifter) immediate(e expression, a nl.Attributes) bool {
	register := uint32(a.Number(unix.NFTA_IMMEDIATE_DREG))
	data := a.Take(unix.NFTA_IMMEDIATE_DATA)
	if !a.AllTaken() {
		return false
	}
	if register == unix.NFT_REG_VERDICT {
		v, ok := liftVerdict(data)
		return ok && l.node(v)
	}
	return l.set(register, &operand{constant: dataValue(data), from: e})
}

func liftVerdict(data []byte) (rules.Verdict, bool) {
	outer, err := nl.Decode(data)
	if err != nil {
		return rules.Verdict{}, false
	}
	a, err := nl.Decode(outer.Take(unix.NFTA_DATA_VERDICT))
	if err != nil || !a.Has(unix.NFTA_VERDICT_CODE) {
		return rules.Verdict{}, false
	}
	code, chain := int32(a.Number(unix.NFTA_VERDICT_CODE)), a.Text(unix.NFTA_VERDICT_CHAIN)
	for kind, c := range verdictCodes {
		if c == code && a.AllTaken() {
			return rules.Verdict{Kind: kind, Chain: chain}, true
		}
	}
	return rules.Verdict{}, false
}

// constantIn is the constant of that length which a register holds.
func (l *lifter) constantIn(register uint32, length int) (rules.Bits, bool) {
	o, ok := l.get(register)
	if !ok || o.selector != 0 || len(o.constant) != length {
		return "", false
	}
	return rules.Bits(o.constant), true
}

func (l *lifter) assign(to rules.Selector, register uint32, known bool) bool {
	o, ok := l.get(register)
	if !known || !ok || o.turned {
		return false
	}
	d := to.Type()
	switch to {
	case rules.MetaMark.Selector(), rules.CTMark.Selector(), rules.CTZone.Selector(), rules.CTOriginalZone.Selector():
	default:
		return false
	}
	n := rules.Assign{To: to}
	switch {
	case o.selector == 0:
		if len(o.constant) != d.Len() {
			return false
		}
		n.Xor = unwire(d, o.constant)
	case o.selector.Type() != d || o.length() != d.Len():
		return false
	case o.mask == nil:
		n.From, n.Mask, n.Xor = o.selector, prefixMask(d.Len()*8, d.Len()), prefixMask(0, d.Len())
	default:
		n.From, n.Mask, n.Xor = o.selector, unwire(d, o.mask), unwire(d, o.xor)
	}
	return l.node(n)
}

// rewrite lifts a write to a header that mends the checksums as weir's do.
func (l *lifter) rewrite(a nl.Attributes) bool {
	base := expr.PayloadBase(a.Number(unix.NFTA_PAYLOAD_BASE))
	offset, length := uint32(a.Number(unix.NFTA_PAYLOAD_OFFSET)), uint32(a.Number(unix.NFTA_PAYLOAD_LEN))
	to, ok := headerField(base, offset, length, l.known)
	if !ok {
		return false
	}
	f := payloads[to]
	value, ok := l.constantIn(uint32(a.Number(unix.NFTA_PAYLOAD_SREG)), int(f.len))
	if !ok || length != f.len ||
		checksumsOf(to) != (checksums{uint32(a.Number(unix.NFTA_PAYLOAD_CSUM_TYPE)), uint32(a.Number(unix.NFTA_PAYLOAD_CSUM_OFFSET)), uint32(a.Number(unix.NFTA_PAYLOAD_CSUM_FLAGS))}) ||
		!a.AllTaken() {
		return false
	}
	if to.Proto() == 0 && to.Family() == 0 {
		return false // a port of any protocol
	}
	return l.node(rules.Assign{To: to, Xor: value})
}

func (l *lifter) redirect(a nl.Attributes) bool {
	upper := a.Has(unix.NFTA_REDIR_REG_PROTO_MAX)
	min, max := uint32(a.Number(unix.NFTA_REDIR_REG_PROTO_MIN)), uint32(a.Number(unix.NFTA_REDIR_REG_PROTO_MAX))
	flags := a.Number(unix.NFTA_REDIR_FLAGS)
	if !a.AllTaken() {
		return false
	}
	if min == 0 {
		return flags == 0 && !upper && l.node(rules.Redirect{})
	}
	lo, ok := l.constantIn(min, 2)
	if !ok || flags != unix.NF_NAT_RANGE_PROTO_SPECIFIED {
		return false
	}
	hi := lo
	if upper {
		if hi, ok = l.constantIn(max, 2); !ok {
			return false
		}
	}
	return l.node(rules.Redirect{Ports: &rules.Range{Lo: lo, Hi: hi}})
}

// nat is a source or a destination NAT to one address; the kernel tells the lower end of a
// range for the upper one too, and that addresses and ports are mapped.
func (l *lifter) nat(a nl.Attributes) bool {
	typ, family := a.Number(unix.NFTA_NAT_TYPE), a.Number(unix.NFTA_NAT_FAMILY)
	address, oneAddress := oneRegister(a, unix.NFTA_NAT_REG_ADDR_MIN, unix.NFTA_NAT_REG_ADDR_MAX)
	port, onePort := oneRegister(a, unix.NFTA_NAT_REG_PROTO_MIN, unix.NFTA_NAT_REG_PROTO_MAX)
	flags := a.Number(unix.NFTA_NAT_FLAGS)
	wanted := uint64(unix.NF_NAT_RANGE_MAP_IPS)
	if port != 0 {
		wanted |= unix.NF_NAT_RANGE_PROTO_SPECIFIED
	}
	if !a.AllTaken() || !oneAddress || !onePort || flags != wanted {
		return false
	}
	bits, ok := l.constantIn(address, addressLengths[family])
	to, isAddress := netip.AddrFromSlice([]byte(bits))
	switch {
	case !ok || !isAddress:
		return false
	case typ == unix.NFT_NAT_SNAT:
		return port == 0 && l.node(rules.SNAT{To: to})
	case typ != unix.NFT_NAT_DNAT:
		return false
	case port == 0:
		return l.node(rules.DNAT{To: to})
	}
	number, ok := l.constantIn(port, 2)
	return ok && number != "\x00\x00" && l.node(rules.DNAT{To: to, Port: rules.Port(number.Uint64())})
}

// oneRegister is the register of the lower end of a range, 0 for none. It reports whether
// the upper end is absent or the same.
func oneRegister(a nl.Attributes, lower, upper uint16) (register uint32, one bool) {
	has := a.Has(upper)
	min, max := uint32(a.Number(lower)), uint32(a.Number(upper))
	return min, !has || max == min
}

// addressLengths are those of the kernel's numbers for families.
var addressLengths = map[uint64]int{unix.NFPROTO_IPV4: 4, unix.NFPROTO_IPV6: 16}

func (l *lifter) tproxy(a nl.Attributes) bool {
	family := a.Number(nftaTProxyFamily)
	n := rules.TProxy{Family: rules.Family(family)}
	addr, port := uint32(a.Number(nftaTProxyRegAddr)), uint32(a.Number(nftaTProxyRegPort))
	if _, known := addressLengths[family]; !a.AllTaken() || !known && family != 0 {
		return false
	}
	if addr != 0 {
		var ok bool
		if n.Addr, ok = l.constantIn(addr, addressLengths[family]); !ok {
			return false
		}
	}
	if port != 0 {
		bits, ok := l.constantIn(port, 2)
		if !ok {
			return false
		}
		n.Port = rules.Port(uint16(bits[0])<<8 | uint16(bits[1]))
	}
	return l.node(n)
}
