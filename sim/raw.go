// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"

	"github.com/weir-mesh/weir/rules"
)

// readRaw reads bytes of the packet. Where it ends before them so does the rule.
func (w *walk) readRaw(kind rules.Selector, offset, length int) (rules.Bits, bool) {
	header, known := w.packet.transportHeader()
	if header == nil { // neither TCP nor UDP: the kernel finds no end of the header
		if inner, _ := rules.IhRaw(0, 1).Selector().Kind(); kind != inner {
			w.end(Unknown, "what stands in a packet of %s", rules.L4Proto.Type().Format(rules.RangeOf(w.packet.Proto).Lo))
		}
		return "", false
	}
	all := string(header) + w.packet.Data
	if inner, _ := rules.IhRaw(0, 1).Selector().Kind(); kind == inner {
		offset += len(header)
	}
	if offset+length > len(all) {
		return "", false
	}
	for i := offset; i < min(offset+length, len(header)); i++ {
		if !known[i] {
			w.end(Unknown, "byte %d of the packet's transport header", i)
			return "", false
		}
	}
	return rules.Bits(all[offset : offset+length]), true
}

// transportHeader is the packet's header of TCP without options, or of UDP, and which of
// its bytes are known; nil of another protocol.
func (p *Packet) transportHeader() (header []byte, known []bool) {
	knows := func(bytes ...int) {
		known = make([]bool, len(header))
		for _, i := range bytes {
			known[i] = true
		}
	}
	switch p.Proto {
	case rules.TCP:
		header = make([]byte, 20)
		knows(0, 1, 2, 3, 12)
		header[12] = 5 << 4 // the header's length in words
	case rules.UDP:
		header = make([]byte, 8)
		knows(0, 1, 2, 3, 4, 5)
		binary.BigEndian.PutUint16(header[4:], uint16(len(header)+len(p.Data)))
	default:
		return nil, nil
	}
	binary.BigEndian.PutUint16(header[0:], p.Src.Port())
	binary.BigEndian.PutUint16(header[2:], p.Dst.Port())
	return header, known
}
