// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"math"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

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
