// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

func (w *ruleWriter) redirect(r rules.Redirect) {
	e := &expr.Redir{}
	if r.Ports != nil {
		w.emit(&expr.Immediate{Register: firstRegister, Data: []byte(r.Ports.Lo)})
		e.RegisterProtoMin, e.Flags = firstRegister, unix.NF_NAT_RANGE_PROTO_SPECIFIED
		if !r.Ports.Single() {
			w.emit(&expr.Immediate{Register: secondRegister, Data: []byte(r.Ports.Hi)})
			e.RegisterProtoMax = secondRegister
		}
	}
	w.emit(e)
}

func (w *ruleWriter) snat(n rules.SNAT) { w.nat(unix.NFT_NAT_SNAT, n.To, 0) }

func (w *ruleWriter) dnat(n rules.DNAT) { w.nat(unix.NFT_NAT_DNAT, n.To, n.Port) }

// nat sets the flag that the kernel sets by itself too, which the library's encoder has
// no field for: what is written and what is read back are then the same.
func (w *ruleWriter) nat(typ uint32, to netip.Addr, port rules.Port) {
	flags := uint32(unix.NF_NAT_RANGE_MAP_IPS)
	w.emit(&expr.Immediate{Register: firstRegister, Data: to.AsSlice()})
	if port != 0 {
		flags |= unix.NF_NAT_RANGE_PROTO_SPECIFIED
		w.emit(&expr.Immediate{Register: secondRegister, Data: []byte(rules.RangeOf(port).Lo)})
	}
	w.raw(encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_EXPR_NAME, "nat")
		nested(ae, unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(unix.NFTA_NAT_TYPE, typ)
			ae.Uint32(unix.NFTA_NAT_FAMILY, uint32(rules.AddressFamily(to)))
			ae.Uint32(unix.NFTA_NAT_REG_ADDR_MIN, firstRegister)
			if port != 0 {
				ae.Uint32(unix.NFTA_NAT_REG_PROTO_MIN, secondRegister)
			}
			ae.Uint32(unix.NFTA_NAT_FLAGS, flags)
		})
	}))
}

func (w *ruleWriter) tproxy(t rules.TProxy) {
	e := &expr.TProxy{Family: byte(t.Family), TableFamily: unix.NFPROTO_INET}
	register := uint32(firstRegister)
	if t.Addr != "" {
		w.emit(&expr.Immediate{Register: register, Data: []byte(t.Addr)})
		e.RegAddr, register = register, secondRegister
	}
	if t.Port != 0 {
		w.emit(&expr.Immediate{Register: register, Data: []byte(rules.RangeOf(t.Port).Lo)})
		e.RegPort = register
	}
	w.raw(marshalTProxy(e))
}

// marshalTProxy leaves out a port register that is not set, which the library's
// encoder would send as register 0.
func marshalTProxy(e *expr.TProxy) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_EXPR_NAME, "tproxy")
		nested(ae, unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(nftaTProxyFamily, uint32(e.Family))
			if e.RegAddr != 0 {
				ae.Uint32(nftaTProxyRegAddr, e.RegAddr)
			}
			if e.RegPort != 0 {
				ae.Uint32(nftaTProxyRegPort, e.RegPort)
			}
		})
	})
}

func (w *ruleWriter) assign(a rules.Assign) {
	d := a.To.Type()
	if a.From == 0 {
		if _, isField := payloads[a.To]; isField {
			w.settle([]rules.Selector{a.To})
		}
		w.emit(&expr.Immediate{Register: firstRegister, Data: wire(d, a.Xor)})
	} else {
		w.settle([]rules.Selector{a.From})
		w.emit(load(a.From, firstRegister, 0))
		if !allOnes(a.Mask) || !allZeros(a.Xor) {
			w.emit(&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(d.Len()),
				Mask: wire(d, a.Mask), Xor: wire(d, a.Xor)})
		}
	}
	if f, ok := payloads[a.To]; ok {
		w.raw(marshalRewrite(a.To, f))
	} else if key, ok := metas[a.To]; ok {
		w.emit(&expr.Meta{Key: key, SourceRegister: true, Register: firstRegister})
	} else {
		w.emit(ofDirection(a.To, &expr.Ct{Key: cts[a.To], SourceRegister: true, Register: firstRegister}))
	}
}

// checksums say which of them the kernel mends where a field is written: an address is
// in that of the IPv4 header and in the pseudo header of its transport protocol, a port
// in that of its own (nft_payload_set_eval).
type checksums struct{ typ, offset, flags uint32 }

func checksumsOf(s rules.Selector) checksums {
	const ip, tcp, udp = 10, 16, 6 // offsets, of RFC 791, RFC 9293 and RFC 768
	switch {
	case s.Family() == rules.IPv4:
		return checksums{unix.NFT_PAYLOAD_CSUM_INET, ip, unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR}
	case s.Family() == rules.IPv6:
		return checksums{flags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR}
	case s.Proto() == rules.TCP:
		return checksums{unix.NFT_PAYLOAD_CSUM_INET, tcp, 0}
	}
	return checksums{unix.NFT_PAYLOAD_CSUM_INET, udp, 0}
}

// marshalRewrite is a write to a header. The library's encoder sends no flags where the
// header has no checksum of its own.
func marshalRewrite(s rules.Selector, f headerBytes) []byte {
	sums := checksumsOf(s)
	return encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_EXPR_NAME, "payload")
		nested(ae, unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(unix.NFTA_PAYLOAD_SREG, firstRegister)
			ae.Uint32(unix.NFTA_PAYLOAD_BASE, uint32(f.base))
			ae.Uint32(unix.NFTA_PAYLOAD_OFFSET, f.offset)
			ae.Uint32(unix.NFTA_PAYLOAD_LEN, f.len)
			ae.Uint32(unix.NFTA_PAYLOAD_CSUM_TYPE, sums.typ)
			ae.Uint32(unix.NFTA_PAYLOAD_CSUM_OFFSET, sums.offset)
			ae.Uint32(unix.NFTA_PAYLOAD_CSUM_FLAGS, sums.flags)
		})
	})
}

func allOnes(b rules.Bits) bool {
	for i := range len(b) {
		if b[i] != 0xff {
			return false
		}
	}
	return true
}

func allZeros[B rules.Bits | []byte](b B) bool {
	for i := range len(b) {
		if b[i] != 0 {
			return false
		}
	}
	return true
}

// opaque puts back expressions as they were dumped.
func (w *ruleWriter) opaque(o rules.Opaque) {
	items, err := list([]byte(o.Raw))
	if err != nil {
		return
	}
	for _, it := range items {
		w.raw(it)
	}
}
