//go:build linux

package nft

import (
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

func (w *ruleWriter) snat(n rules.SNAT) {
	w.emit(&expr.Immediate{Register: firstRegister, Data: n.To.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(rules.AddressFamily(n.To)), RegAddrMin: firstRegister})
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
		w.emit(&expr.Immediate{Register: firstRegister, Data: wire(d, a.Xor)})
	} else {
		w.settle([]rules.Selector{a.From})
		w.emit(load(a.From, firstRegister, 0))
		if !allOnes(a.Mask) || !allZeros(a.Xor) {
			w.emit(&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(d.Len()),
				Mask: wire(d, a.Mask), Xor: wire(d, a.Xor)})
		}
	}
	if key, ok := metas[a.To]; ok {
		w.emit(&expr.Meta{Key: key, SourceRegister: true, Register: firstRegister})
	} else {
		w.emit(ofDirection(a.To, &expr.Ct{Key: cts[a.To], SourceRegister: true, Register: firstRegister}))
	}
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
