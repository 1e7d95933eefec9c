// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"time"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

func (l *lowering) deleteSet(name string) {
	l.add(change{typ: unix.NFT_MSG_DELSET, where: "set " + name, kind: "set",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_SET_NAME, name) })})
}

// declaration is a set's message with what named and anonymous sets share.
func (l *lowering) declaration(s *rules.Set, flags uint32, id uint32) []byte {
	magic, length := keyLayout(s.Key)
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	concatRanges := s.Interval && len(s.Key) > 1
	if concatRanges {
		flags |= setConcat
	}
	if s.Verdicts {
		flags |= unix.NFT_SET_MAP
	}
	if s.Dynamic {
		flags |= unix.NFT_SET_EVAL
	}
	if s.Expires {
		flags |= unix.NFT_SET_TIMEOUT
	}
	return l.object(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_NAME, s.Name)
		ae.Uint32(unix.NFTA_SET_FLAGS, flags)
		ae.Uint32(unix.NFTA_SET_KEY_TYPE, magic)
		ae.Uint32(unix.NFTA_SET_KEY_LEN, length)
		ae.Uint32(unix.NFTA_SET_ID, id)
		if s.Verdicts {
			ae.Uint32(unix.NFTA_SET_DATA_TYPE, verdictDataType)
		}
		if s.Size > 0 || concatRanges {
			nested(ae, unix.NFTA_SET_DESC, func(ae *netlink.AttributeEncoder) {
				if s.Size > 0 {
					ae.Uint32(unix.NFTA_SET_DESC_SIZE, s.Size)
				}
				if concatRanges {
					nested(ae, nftaSetDescConcat, func(ae *netlink.AttributeEncoder) { fieldLengths(ae, s.Key) })
				}
			})
		}
		if s.Timeout > 0 {
			ae.Uint64(unix.NFTA_SET_TIMEOUT, uint64(s.Timeout/time.Millisecond))
		}
		if s.Sweep > 0 {
			ae.Uint32(unix.NFTA_SET_GC_INTERVAL, uint32(s.Sweep/time.Millisecond))
		}
		if e := ofElements(s); e != nil {
			ae.Bytes(unix.NLA_F_NESTED|nftaSetExpr, marshal(e))
		}
		ae.Bytes(unix.NFTA_SET_USERDATA, setUserdata(s))
	})
}

// ofElements is the expression that each element of the set has, nil where it has none.
func ofElements(s *rules.Set) expr.Any {
	switch {
	case s.Counters:
		return &expr.Counter{}
	case s.Quota > 0:
		return &expr.Quota{Bytes: s.Quota}
	}
	return nil
}

// setUserdata is what nft wants to know of a set to list it right: the byte
// order of its keys, and a comment.
func setUserdata(s *rules.Set) []byte {
	data := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, byteOrder(s.Key))
	if s.Interval && !s.Verdicts && len(s.Key) == 1 {
		data = userdata.AppendUint32(data, userdata.NFTNL_UDATA_SET_MERGE_ELEMENTS, 0)
	}
	if s.Live {
		data = userdata.AppendString(data, userdata.NFTNL_UDATA_SET_COMMENT, reserved.LiveComment)
	}
	return data
}

// byteOrder is nft's word for the order of a type's bytes, whatever the kernel
// makes of it in an interval set (enum byteorder of nftables' datatype.h).
func byteOrder(key []rules.DataType) uint32 {
	const none, host, bigEndian = 0, 1, 2
	if len(key) != 1 || key[0].Len() == 1 && key[0] != rules.TCPFlags.Type() { // of single bytes nft gives an order to this type alone
		return none
	}
	if _, isHost := key[0].Magic(); isHost {
		return host
	}
	return bigEndian
}

func fieldLengths(ae *netlink.AttributeEncoder, key []rules.DataType) {
	for _, d := range key {
		nested(ae, unix.NFTA_LIST_ELEM, func(ae *netlink.AttributeEncoder) { ae.Uint32(nftaSetFieldLen, uint32(d.Len())) })
	}
}

// keyLayout is nft's number for the type of a key, and its length, in which
// each part of a concatenation takes whole 32-bit registers.
func keyLayout(key []rules.DataType) (magic, length uint32) {
	if len(key) == 1 {
		magic, _ = key[0].Magic()
		return magic, uint32(key[0].Len())
	}
	for _, d := range key {
		m, _ := d.Magic()
		magic = magic<<magicTypeBits | m
		length += uint32(nl.Align(d.Len()))
	}
	return magic, length
}

func (l *lowering) addSet(s *rules.Set) {
	l.nextID++
	l.add(change{typ: unix.NFT_MSG_NEWSET, flags: netlink.Create, where: "set " + s.Name, kind: "set",
		data: l.declaration(s, 0, l.nextID)})
}

// addAnonymous adds a set for one rule and returns its number in the batch.
func (l *lowering) addAnonymous(where string, s *rules.Set) uint32 {
	l.nextID++
	s.Name = anonymousName(s)
	l.add(change{typ: unix.NFT_MSG_NEWSET, flags: netlink.Create, where: where, kind: "set",
		data: l.declaration(s, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT, l.nextID)})
	l.elements(unix.NFT_MSG_NEWSETELEM, where, s, l.nextID, s.Elements)
	return l.nextID
}

// anonymousName is the pattern by which the kernel names an anonymous set.
func anonymousName(s *rules.Set) string {
	if s.Verdicts {
		return "__map%d"
	}
	return "__set%d"
}
