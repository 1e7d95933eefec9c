// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// headerBytes are a part of a header.
type headerBytes struct {
	base        expr.PayloadBase
	offset, len uint32
}

// payloads are the selectors that are bytes of a header.
var payloads = map[rules.Selector]headerBytes{
	rules.IPSaddr.Selector():  {expr.PayloadBaseNetworkHeader, 12, 4},
	rules.IPDaddr.Selector():  {expr.PayloadBaseNetworkHeader, 16, 4},
	rules.IP6Saddr.Selector(): {expr.PayloadBaseNetworkHeader, 8, 16},
	rules.IP6Daddr.Selector(): {expr.PayloadBaseNetworkHeader, 24, 16},
	rules.TCPSport.Selector(): {expr.PayloadBaseTransportHeader, 0, 2},
	rules.TCPDport.Selector(): {expr.PayloadBaseTransportHeader, 2, 2},
	rules.UDPSport.Selector(): {expr.PayloadBaseTransportHeader, 0, 2},
	rules.UDPDport.Selector(): {expr.PayloadBaseTransportHeader, 2, 2},
	rules.ThSport.Selector():  {expr.PayloadBaseTransportHeader, 0, 2},
	rules.ThDport.Selector():  {expr.PayloadBaseTransportHeader, 2, 2},
	rules.TCPFlags.Selector(): {expr.PayloadBaseTransportHeader, 13, 1},
}

// rawBases are those of bytes that have no name.
var rawBases = map[rules.Selector]expr.PayloadBase{
	rawKind(rules.ThRaw(0, 1)): expr.PayloadBaseTransportHeader,
	rawKind(rules.IhRaw(0, 1)): payloadInner,
}

const payloadInner expr.PayloadBase = 3 // NFT_PAYLOAD_INNER_HEADER, since Linux 5.16

func rawKind(k rules.Key[rules.Raw]) rules.Selector {
	kind, _ := k.Selector().Kind()
	return kind
}

// header is where a selector reads that is bytes of a header or behind one.
func header(s rules.Selector) (headerBytes, bool) {
	kind, _ := s.Kind()
	if offset, length, isRaw := s.Raw(); isRaw {
		return headerBytes{rawBases[kind], uint32(offset), uint32(length)}, true
	}
	f, ok := payloads[kind]
	return f, ok
}

var metas = map[rules.Selector]expr.MetaKey{
	rules.L4Proto.Selector():  expr.MetaKeyL4PROTO,
	rules.NFProto.Selector():  expr.MetaKeyNFPROTO,
	rules.MetaMark.Selector(): expr.MetaKeyMARK,
	rules.IIf.Selector():      expr.MetaKeyIIF,
	rules.IIfName.Selector():  expr.MetaKeyIIFNAME,
	rules.OIfName.Selector():  expr.MetaKeyOIFNAME,
	rules.SkUID.Selector():    expr.MetaKeySKUID,
	rules.SkGID.Selector():    expr.MetaKeySKGID,
}

var cts = map[rules.Selector]expr.CtKey{
	rules.CTMark.Selector():   expr.CtKeyMARK,
	rules.CTStates.Selector(): expr.CtKeySTATE,
	rules.CTZone.Selector():   expr.CtKeyZONE,

	rules.CTOriginalZone.Selector(): expr.CtKeyZONE, // with a direction
}

// fib is what a kind of lookup reads, and its NFTA_FIB_FLAGS without those of [rules.Key.By].
type fib struct{ result, flags uint32 }

const (
	fibSaddrPresent = unix.NFTA_FIB_F_SADDR | unix.NFTA_FIB_F_PRESENT
	fibDaddrPresent = unix.NFTA_FIB_F_DADDR | unix.NFTA_FIB_F_PRESENT
	fibBy           = unix.NFTA_FIB_F_MARK | unix.NFTA_FIB_F_IIF | unix.NFTA_FIB_F_OIF
)

var fibs = map[rules.Selector]fib{
	rules.FibSaddrType.Selector():    {unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_SADDR},
	rules.FibDaddrType.Selector():    {unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_DADDR},
	rules.FibSaddrOIf.Selector():     {unix.NFT_FIB_RESULT_OIF, unix.NFTA_FIB_F_SADDR},
	rules.FibDaddrOIf.Selector():     {unix.NFT_FIB_RESULT_OIF, unix.NFTA_FIB_F_DADDR},
	rules.FibSaddrOIfName.Selector(): {unix.NFT_FIB_RESULT_OIFNAME, unix.NFTA_FIB_F_SADDR},
	rules.FibDaddrOIfName.Selector(): {unix.NFT_FIB_RESULT_OIFNAME, unix.NFTA_FIB_F_DADDR},
	rules.FibSaddrRoute.Selector():   {unix.NFT_FIB_RESULT_OIF, fibSaddrPresent},
	rules.FibDaddrRoute.Selector():   {unix.NFT_FIB_RESULT_OIF, fibDaddrPresent},
}

// load is the lookup with what else it takes into account.
func (f fib) load(register uint32, by rules.FibFlag) *expr.Fib {
	return &expr.Fib{Register: register,
		ResultOIF: f.result == unix.NFT_FIB_RESULT_OIF, ResultOIFNAME: f.result == unix.NFT_FIB_RESULT_OIFNAME, ResultADDRTYPE: f.result == unix.NFT_FIB_RESULT_ADDRTYPE,
		FlagSADDR: f.flags&unix.NFTA_FIB_F_SADDR != 0, FlagDADDR: f.flags&unix.NFTA_FIB_F_DADDR != 0, FlagPRESENT: f.flags&unix.NFTA_FIB_F_PRESENT != 0,
		FlagMARK: by&rules.FibMark != 0, FlagIIF: by&rules.FibIIf != 0, FlagOIF: by&rules.FibOIf != 0}
}

// fibSelector is the selector of a lookup.
func fibSelector(result, flags uint32) (rules.Selector, bool) {
	kind, ok := keyOf(fibs, fib{result, flags &^ fibBy})
	return rules.Key[rules.AddrType](kind).By(rules.FibFlag(flags & fibBy)).Selector(), ok
}

var socketCgroup = rules.SocketCgroup(0).Selector() // whatever the level

var sockets = map[rules.Selector]expr.SocketKey{
	rules.SocketTransparent.Selector(): expr.SocketKeyTransparent,
	rules.SocketMark.Selector():        expr.SocketKeyMark,
	socketCgroup:                       expr.SocketKeyCgroupv2,
}

// load is the expression that reads a selector into a register; of a payload,
// the first bytes alone where bytes is not 0.
func load(s rules.Selector, register, bytes uint32) expr.Any {
	kind, argument := s.Kind()
	if p, ok := header(s); ok {
		if bytes == 0 {
			bytes = p.len
		}
		return &expr.Payload{DestRegister: register, Base: p.base, Offset: p.offset, Len: bytes}
	}
	if key, ok := metas[kind]; ok {
		return &expr.Meta{Key: key, Register: register}
	}
	if key, ok := cts[kind]; ok {
		return ofDirection(kind, &expr.Ct{Key: key, Register: register})
	}
	if f, ok := fibs[kind]; ok {
		return f.load(register, rules.FibFlag(argument))
	}
	return &expr.Socket{Key: sockets[kind], Level: uint32(argument), Register: register}
}

// originalCt reads or sets what conntrack keeps of a connection's original direction,
// which the library's encoder does not say of a zone.
type originalCt struct{ *expr.Ct }

func ofDirection(s rules.Selector, e *expr.Ct) expr.Any {
	if s == rules.CTOriginalZone.Selector() {
		return originalCt{e}
	}
	return e
}

func (e originalCt) encode() []byte {
	register := uint16(unix.NFTA_CT_DREG)
	if e.SourceRegister {
		register = unix.NFTA_CT_SREG
	}
	return encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_EXPR_NAME, "ct")
		nested(ae, unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(unix.NFTA_CT_KEY, uint32(e.Key))
			ae.Uint32(register, e.Register)
			ae.Uint8(unix.NFTA_CT_DIRECTION, expr.CtDirOriginal)
		})
	})
}

// known is what an expression of a rule before this one has settled.
type known struct {
	proto  rules.Proto
	family rules.Family
}

// loaded is the selector that an expression of the kernel reads, and into which
// register; of a payload also how many bytes. It consumes the attributes that
// it understands.
func loaded(name string, a nl.Attributes, k known) (s rules.Selector, register, bytes uint32, ok bool) {
	switch name {
	case "meta":
		register = uint32(a.Number(unix.NFTA_META_DREG))
		s, ok = keyOf(metas, expr.MetaKey(a.Number(unix.NFTA_META_KEY)))
	case "ct":
		register = uint32(a.Number(unix.NFTA_CT_DREG))
		s, ok = ctSelector(a)
	case "fib":
		register = uint32(a.Number(unix.NFTA_FIB_DREG))
		s, ok = fibSelector(uint32(a.Number(unix.NFTA_FIB_RESULT)), uint32(a.Number(unix.NFTA_FIB_FLAGS)))
	case "socket":
		register = uint32(a.Number(nftaSocketDreg))
		s, ok = keyOf(sockets, expr.SocketKey(a.Number(nftaSocketKey)))
		switch level := a.Number(nftaSocketLevel); {
		case s == socketCgroup:
			s = rules.SocketCgroup(uint8(level)).Selector()
			ok = ok && level <= math.MaxUint8
		case level != 0:
			ok = false
		}
	case "payload":
		register = uint32(a.Number(unix.NFTA_PAYLOAD_DREG))
		base := expr.PayloadBase(a.Number(unix.NFTA_PAYLOAD_BASE))
		offset := uint32(a.Number(unix.NFTA_PAYLOAD_OFFSET))
		bytes = uint32(a.Number(unix.NFTA_PAYLOAD_LEN))
		s, ok = headerField(base, offset, bytes, k)
		ok = ok && bytes > 0 // 0 would be all of them
	}
	return s, register, bytes, ok && register != 0 && a.AllTaken()
}

// ctSelector is the selector of a key of conntrack, and of its direction if it has one.
func ctSelector(a nl.Attributes) (rules.Selector, bool) {
	key := expr.CtKey(a.Number(unix.NFTA_CT_KEY))
	if !a.Has(unix.NFTA_CT_DIRECTION) {
		for s, k := range cts {
			if k == key && s != rules.CTOriginalZone.Selector() {
				return s, true
			}
		}
		return 0, false
	}
	direction := a.Take(unix.NFTA_CT_DIRECTION)
	return rules.CTOriginalZone.Selector(), key == expr.CtKeyZONE && slices.Equal(direction, []byte{expr.CtDirOriginal})
}

func keyOf[V comparable](table map[rules.Selector]V, want V) (rules.Selector, bool) {
	for s, v := range table {
		if v == want {
			return s, true
		}
	}
	return 0, false
}

// headerField is the selector that reads these bytes of a packet of which k is
// known; th where the transport protocol is not.
func headerField(base expr.PayloadBase, offset, bytes uint32, k known) (rules.Selector, bool) {
	for s, p := range payloads {
		if p.base != base || p.offset != offset || bytes > p.len {
			continue
		}
		if base == expr.PayloadBaseNetworkHeader && s.Family() == k.family {
			return s, true
		}
		if base == expr.PayloadBaseTransportHeader && bytes == p.len && s.Proto() == transport(k.proto) {
			return s, true
		}
	}
	return rawField(base, offset, bytes)
}

// rawField is the selector of bytes that have no name.
func rawField(base expr.PayloadBase, offset, bytes uint32) (rules.Selector, bool) {
	const most, furthest = 8, 255 // that a rule compares, and that the kernel reads from
	if bytes == 0 || bytes > most || offset > furthest {
		return 0, false
	}
	switch base {
	case expr.PayloadBaseTransportHeader:
		return rules.ThRaw(int(offset), int(bytes)).Selector(), true
	case payloadInner:
		return rules.IhRaw(int(offset), int(bytes)).Selector(), true
	}
	return 0, false
}

func transport(p rules.Proto) rules.Proto {
	if p == rules.TCP || p == rules.UDP {
		return p
	}
	return 0
}

// wire is a value as the kernel's registers hold it: in the machine's byte
// order for types that have it.
func wire(d rules.DataType, b rules.Bits) []byte {
	out := []byte(b)
	if d.HostOrder() && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		slices.Reverse(out)
	}
	return out
}

// unwire is the inverse of wire.
func unwire(d rules.DataType, b []byte) rules.Bits { return rules.Bits(wire(d, rules.Bits(b))) }
