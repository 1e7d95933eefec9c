// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

// implied is what the nodes of a rule so far leave of packets: those of one
// transport protocol, of one family. 0 is any.
type implied struct {
	proto  Proto
	family Family
	// A list of protocols or families has been matched: nft takes its last for
	// settled, and refuses or misreads a selector that needs one.
	protoList, familyList bool
	transport             bool // no protocol but TCP and UDP
}

// read notes what selectors imply.
func (s *implied) read(key []Selector) {
	for _, k := range key {
		if p := k.Proto(); p != 0 {
			s.proto, s.transport = p, true
		}
		if f := k.Family(); f != 0 {
			s.family = f
		}
	}
}

// pass notes what a match on the protocol or the family leaves.
func (s *implied) pass(n Node) {
	m, ok := n.(Match)
	if !ok || m.Negated || m.Mask != "" || m.Set != "" || len(m.Key) != 1 {
		return
	}
	list := len(m.Elements) > 1
	v, one := m.single()
	switch m.Key[0] {
	case Selector(L4Proto):
		s.transport = !slices.ContainsFunc(m.Elements, func(e Element) bool {
			return !slices.Equal(e.Key, []Range{RangeOf(TCP)}) && !slices.Equal(e.Key, []Range{RangeOf(UDP)})
		})
		s.protoList = s.protoList || list
		if one {
			s.proto = Proto(v.Uint64())
		}
	case Selector(NFProto):
		s.familyList = s.familyList || list
		if one {
			s.family = Family(v.Uint64())
		}
	}
}

// of is the selector as it reads once the transport protocol is settled: `th
// dport` of a TCP packet is its `tcp dport`, to the kernel and to nft.
func (s implied) of(k Selector) Selector {
	switch {
	case k == Selector(ThSport) && s.proto == TCP:
		return Selector(TCPSport)
	case k == Selector(ThDport) && s.proto == TCP:
		return Selector(TCPDport)
	case k == Selector(ThSport) && s.proto == UDP:
		return Selector(UDPSport)
	case k == Selector(ThDport) && s.proto == UDP:
		return Selector(UDPDport)
	}
	return k
}
