// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
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
	rules.OIf.Selector():      expr.MetaKeyOIF,
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
	rules.FibSaddr.Type().Selector():    {unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_SADDR},
	rules.FibDaddr.Type().Selector():    {unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_DADDR},
	rules.FibSaddr.OIf().Selector():     {unix.NFT_FIB_RESULT_OIF, unix.NFTA_FIB_F_SADDR},
	rules.FibDaddr.OIf().Selector():     {unix.NFT_FIB_RESULT_OIF, unix.NFTA_FIB_F_DADDR},
	rules.FibSaddr.OIfName().Selector(): {unix.NFT_FIB_RESULT_OIFNAME, unix.NFTA_FIB_F_SADDR},
	rules.FibDaddr.OIfName().Selector(): {unix.NFT_FIB_RESULT_OIFNAME, unix.NFTA_FIB_F_DADDR},
	rules.FibSaddr.Route().Selector():   {unix.NFT_FIB_RESULT_OIF, fibSaddrPresent},
	rules.FibDaddr.Route().Selector():   {unix.NFT_FIB_RESULT_OIF, fibDaddrPresent},
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
