// SPDX-License-Identifier: Apache-2.0

package modes

import "fmt"

// PortWord is a port as it is written: a number of 1-65535, and where several ports
// are meant a range (8000-8100, 8000:8100, 9000:), the name of a service (https), or
// for a whole list all or none. "" is absent. It is text, so that a configuration of
// a document and one of a program are the same type, and a problem can repeat what
// was written; a program makes it with [Port], [Ports] and [PortRange].
type PortWord string

// Port is the word for one port. [State] reports 0 as a problem.
func Port(port uint16) PortWord { return PortWord(fmt.Sprint(port)) }

// Ports are the words for several ports. They are not nil, so that without a port they
// mean none and not the default.
func Ports(ports ...uint16) []PortWord {
	words := make([]PortWord, len(ports))
	for i, p := range ports {
		words[i] = Port(p)
	}
	return words
}

// PortRange is the word for the ports from first to last, both included. [State]
// reports it as a problem where last is lower than first.
func PortRange(first, last uint16) PortWord { return PortWord(fmt.Sprintf("%d-%d", first, last)) }

// MarkWord is a mark as it is written: value or value/mask, of 32 bits, in decimal or
// with 0x. Without a mask that of routing.mask holds, and for probes.mark every bit.
// "" is absent. It is text for the reasons that [PortWord] is; a program makes it with
// [Mark] and [MaskedMark].
type MarkWord string

// Mark is the word for a mark without a mask of its own, and for a mask.
func Mark(value uint32) MarkWord { return MarkWord(fmt.Sprintf("%#x", value)) }

// MaskedMark is the word for a mark of which the bits of mask count. [State] reports a
// value with other bits as a problem.
func MaskedMark(value, mask uint32) MarkWord {
	return MarkWord(fmt.Sprintf("%#x/%#x", value, mask))
}

// IDs are the words for users or groups, which may also be ranges (1000-2000) and
// names. They are not nil.
func IDs(ids ...uint32) []string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = fmt.Sprint(id)
	}
	return words
}

// texts are words of any kind as text.
func texts[W ~string](words []W) []string {
	if words == nil {
		return nil
	}
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}
