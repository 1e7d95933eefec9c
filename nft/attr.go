// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// Attributes that golang.org/x/sys/unix lacks, from
// linux/netfilter/nf_tables.h and nfnetlink.h.
const (
	nftaHookDevs       = 4  // NFTA_HOOK_DEVS
	nftaDeviceName     = 1  // NFTA_DEVICE_NAME
	nftaChainFlags     = 10 // NFTA_CHAIN_FLAGS
	nftaSetExpr        = 17 // NFTA_SET_EXPR
	nftaSetExpressions = 18 // NFTA_SET_EXPRESSIONS
	nftaSetCount       = 20 // NFTA_SET_COUNT
	nftaSetDescConcat  = 2  // NFTA_SET_DESC_CONCAT
	nftaSetFieldLen    = 1  // NFTA_SET_FIELD_LEN
	nftaSetElemPad     = 8  // NFTA_SET_ELEM_PAD
	nftaSetElemKeyEnd  = 10 // NFTA_SET_ELEM_KEY_END
	nftaTProxyFamily   = 1  // NFTA_TPROXY_FAMILY
	nftaTProxyRegAddr  = 2
	nftaTProxyRegPort  = 3
	nftaSocketKey      = 1 // NFTA_SOCKET_KEY
	nftaSocketDreg     = 2
	nftaSocketLevel    = 3
	nftaDynsetPad      = 8    // NFTA_DYNSET_PAD
	nftaBitwiseOp      = 6    // NFTA_BITWISE_OP
	nfnlBatchGenID     = 1    // NFNL_BATCH_GENID
	setConcat          = 0x80 // NFT_SET_CONCAT
	setExpr            = 0x100
	chainBase          = 1 // NFT_CHAIN_BASE
	tableOwner         = 2 // NFT_TABLE_F_OWNER
	nftaTableHandle    = 4 // NFTA_TABLE_HANDLE
	nftaTableOwner     = 7 // NFTA_TABLE_OWNER
	elemCatchall       = 2 // NFT_SET_ELEM_CATCHALL
	magicTypeBits      = 6 // TYPE_BITS of nftables' datatype.h
	verdictDataType    = 0xffffff00
)

// encode writes attributes in network byte order, as nf_tables has them.
func encode(fill func(*netlink.AttributeEncoder)) []byte {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	fill(ae)
	b, err := ae.Encode()
	if err != nil {
		// Only a value over 64 KiB can fail; everything written here is bounded by
		// the checks of rules and the chunking of elements.
		panic(fmt.Sprintf("nft: encode: %v", err))
	}
	return b
}

func nested(ae *netlink.AttributeEncoder, typ uint16, fill func(*netlink.AttributeEncoder)) {
	ae.Nested(typ, func(inner *netlink.AttributeEncoder) error {
		inner.ByteOrder = binary.BigEndian
		fill(inner)
		return nil
	})
}

func dataValue(b []byte) (value []byte) {
	err := nl.Walk(b, func(typ uint16, data []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			value = data
		}
	})
	if err != nil {
		return nil
	}
	return value
}

// userText is a text among the user data of an object, which are entries of a
// type, a length and bytes; "" where there is none. (The library's reader panics
// where an entry is cut short.)
func userText(data []byte, typ userdata.Type) string {
	for len(data) >= 2 {
		end := 2 + int(data[1])
		if end > len(data) {
			return ""
		}
		if data[0] == byte(typ) {
			return strings.TrimSuffix(string(data[2:end]), "\x00")
		}
		data = data[end:]
	}
	return ""
}

// list splits a nested list of equal attributes.
func list(b []byte) (out [][]byte, err error) {
	err = nl.Walk(b, func(_ uint16, data []byte) { out = append(out, data) })
	return out, err
}

// attribute is one netlink attribute under construction. Elements come by the
// ten thousand: they are appended to one buffer.
type attribute struct {
	typ  uint16
	data []byte
}

func (a attribute) appendTo(b []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(nl.AttributeHeader+len(a.data)))
	b = binary.NativeEndian.AppendUint16(b, a.typ)
	b = append(b, a.data...)
	return append(b, make([]byte, nl.Align(len(a.data))-len(a.data))...)
}

func (a *attribute) bytes(typ uint16, data []byte) {
	a.data = attribute{typ: typ, data: data}.appendTo(a.data)
}

func (a *attribute) nest(outer, inner uint16, data []byte) {
	a.bytes(unix.NLA_F_NESTED|outer, attribute{typ: inner, data: data}.appendTo(nil))
}

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
