// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"time"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

func (l *lowering) addElements(s *rules.Set, elements []rules.Element) {
	l.elements(unix.NFT_MSG_NEWSETELEM, "set "+s.Name, s, 0, elements)
}

func (l *lowering) deleteElements(s *rules.Set, elements []rules.Element) {
	l.elements(unix.NFT_MSG_DELSETELEM, "set "+s.Name, s, 0, elements)
}

const maxElementBytes = 48 << 10 // of one message's list: an attribute holds 64 KiB

// elements adds or deletes elements, in as many messages as they need.
func (l *lowering) elements(typ int, where string, s *rules.Set, id uint32, elements []rules.Element) {
	var list []byte
	send := func() {
		if len(list) == 0 {
			return
		}
		l.add(change{typ: typ, flags: netlink.Create, where: where, kind: "set", data: l.object(func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			if id != 0 {
				ae.Uint32(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
			}
			ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, list)
		})})
		list = nil
	}
	for _, e := range elements {
		list = appendElement(list, s, e)
		if len(list) > maxElementBytes {
			send()
		}
	}
	send()
}

// appendElement appends what the kernel wants for one element: one entry, or
// for an interval of a plain key an entry for the start and one for the value
// after the end.
func appendElement(list []byte, s *rules.Set, e rules.Element) []byte {
	if len(s.Key) > 1 || !s.Interval {
		lo, hi := concatenated(s, e.Key)
		entry := elementAttrs{key: lo, element: &e}
		if s.Interval {
			entry.keyEnd = hi
		}
		return entry.appendTo(list)
	}
	list = elementAttrs{key: []byte(e.Key[0].Lo), element: &e}.appendTo(list)
	if after, ok := e.Key[0].After(); ok {
		list = elementAttrs{key: []byte(after), end: true}.appendTo(list)
	}
	return list
}

// concatenated are both ends of an element's key as the kernel compares them.
func concatenated(s *rules.Set, key []rules.Range) (lo, hi []byte) {
	for i, d := range s.Key {
		lo, hi = append(lo, inSet(s, d, key[i].Lo)...), append(hi, inSet(s, d, key[i].Hi)...)
		if len(s.Key) > 1 {
			pad := make([]byte, nl.Align(d.Len())-d.Len())
			lo, hi = append(lo, pad...), append(hi, pad...)
		}
	}
	return lo, hi
}

// inSet is a value as the elements of a set hold it: an interval set compares
// byte by byte, the most significant first.
func inSet(s *rules.Set, d rules.DataType, v rules.Bits) []byte {
	if s.Interval {
		return []byte(v)
	}
	return wire(d, v)
}

type elementAttrs struct {
	key, keyEnd []byte
	end         bool
	element     *rules.Element
}

func (e elementAttrs) appendTo(list []byte) []byte {
	entry := attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM}
	if e.end {
		entry.bytes(unix.NFTA_SET_ELEM_FLAGS, []byte{0, 0, 0, unix.NFT_SET_ELEM_INTERVAL_END})
	}
	entry.nest(unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE, e.key)
	if e.keyEnd != nil {
		entry.nest(nftaSetElemKeyEnd, unix.NFTA_DATA_VALUE, e.keyEnd)
	}
	if el := e.element; el != nil {
		if el.Verdict.Kind != 0 {
			entry.bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_DATA, verdictData(el.Verdict))
		}
		if el.Timeout > 0 {
			entry.bytes(unix.NFTA_SET_ELEM_TIMEOUT, be64(uint64(el.Timeout/time.Millisecond)))
		}
		if el.Expires > 0 {
			entry.bytes(unix.NFTA_SET_ELEM_EXPIRATION, be64(uint64(el.Expires/time.Millisecond)))
		}
		if el.Comment != "" {
			entry.bytes(unix.NFTA_SET_ELEM_USERDATA, userdata.AppendString(nil, userdata.TypeComment, el.Comment))
		}
	}
	return entry.appendTo(list)
}

func verdictData(v rules.Verdict) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		nested(ae, unix.NFTA_DATA_VERDICT, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(unix.NFTA_VERDICT_CODE, uint32(verdictCodes[v.Kind]))
			if v.Chain != "" {
				ae.String(unix.NFTA_VERDICT_CHAIN, v.Chain)
			}
		})
	})
}

// verdictCodes are the kernel's (enum nft_verdicts, and linux/netfilter.h).
var verdictCodes = map[rules.VerdictKind]int32{
	rules.AcceptKind:   1,
	rules.DropKind:     0,
	rules.ContinueKind: unix.NFT_CONTINUE,
	rules.ReturnKind:   unix.NFT_RETURN,
	rules.JumpKind:     unix.NFT_JUMP,
	rules.GotoKind:     unix.NFT_GOTO,
}
