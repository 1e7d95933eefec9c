// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
)

// Selector names what a match reads from a packet, what a set is keyed by and
// what a statement copies from. The upper half holds an argument, where the
// selector takes one (the level of [SocketCgroup], the flags of [Key.By]).
type Selector uint32

// Key is a [Selector] of values of type T.
type Key[T Value] Selector

// Selectors, in nft's words.
const (
	L4Proto           Key[Proto]        = 1  // meta l4proto
	NFProto           Key[Family]       = 2  // meta nfproto
	MetaMark          Key[Mark]         = 3  // meta mark
	IIf               Key[IfIndex]      = 4  // meta iif
	IIfName           Key[IfName]       = 5  // iifname
	OIfName           Key[IfName]       = 6  // oifname
	SkUID             Key[UID]          = 7  // meta skuid
	SkGID             Key[GID]          = 8  // meta skgid
	IPSaddr           Key[netip.Prefix] = 9  // ip saddr
	IPDaddr           Key[netip.Prefix] = 10 // ip daddr
	IP6Saddr          Key[netip.Prefix] = 11 // ip6 saddr
	IP6Daddr          Key[netip.Prefix] = 12 // ip6 daddr
	TCPSport          Key[Port]         = 13 // tcp sport
	TCPDport          Key[Port]         = 14 // tcp dport
	UDPSport          Key[Port]         = 15 // udp sport
	UDPDport          Key[Port]         = 16 // udp dport
	ThSport           Key[Port]         = 17 // th sport: of whatever transport protocol
	ThDport           Key[Port]         = 18 // th dport
	CTMark            Key[Mark]         = 19 // ct mark
	CTStates          Key[CTState]      = 20 // ct state
	CTZone            Key[Zone]         = 21 // ct zone
	fibSaddrType      Key[AddrType]     = 22 // fib saddr type
	fibDaddrType      Key[AddrType]     = 23 // fib daddr type
	SocketTransparent Key[bool]         = 24 // socket transparent
	SocketMark        Key[Mark]         = 25 // socket mark
	socketCgroup      Key[CgroupID]     = 26 // socket cgroupv2 level N

	// Saddr and Daddr read an address of either family. Nft has no such
	// selectors: [Table.Expand] writes a rule that holds them once for each family,
	// and Check refuses one that was not expanded.
	Saddr Key[netip.Prefix] = 27
	Daddr Key[netip.Prefix] = 28

	TCPFlags       Key[TCPFlag] = 29 // tcp flags
	CTOriginalZone Key[Zone]    = 30 // ct original zone: of the direction of a connection's first packet

	fibSaddrOIf     Key[IfIndex]  = 31 // fib saddr oif
	fibDaddrOIf     Key[IfIndex]  = 32 // fib daddr oif
	fibSaddrOIfName Key[IfName]   = 33 // fib saddr oifname
	fibDaddrOIfName Key[IfName]   = 34 // fib daddr oifname
	fibSaddrRoute   Key[Presence] = 35 // fib saddr oif, exists or missing
	fibDaddrRoute   Key[Presence] = 36 // fib daddr oif, exists or missing

	thRaw Key[Raw] = 37 // @th,0,8 and so on
	ihRaw Key[Raw] = 38 // @ih,0,8

	OIf Key[IfIndex] = 39 // meta oif
)

// ThRaw reads length bytes (1-8) that begin offset bytes (0-255) after the start of the
// transport header: `@th,96,8` is ThRaw(12, 1). A field that nft has a name for, such as
// a port, is read by that.
func ThRaw(offset, length int) Key[Raw] { return thRaw | rawArgument(offset, length) }

// IhRaw reads length bytes (1-8) that begin offset bytes (0-255) after the end of a TCP or
// UDP header: `@ih,0,16` is IhRaw(0, 2). A packet that ends before has no such bytes. Since
// Linux 5.16 (NFT_PAYLOAD_INNER_HEADER of linux/netfilter/nf_tables.h).
func IhRaw(offset, length int) Key[Raw] { return ihRaw | rawArgument(offset, length) }

const (
	maxRawOffset = 255 // NFTA_PAYLOAD_OFFSET is a byte in the kernel
	maxRawLength = 8   // nft compares with numbers of up to 64 bits, of those that it reads back

	rawOffsetBits = 12
)

// rawArgument is both in an argument, of which 0 is the first byte.
func rawArgument(offset, length int) Key[Raw] {
	return (Key[Raw](length-1)<<rawOffsetBits | Key[Raw](offset)&(1<<rawOffsetBits-1)) << argumentShift
}

// Raw is where a selector of [ThRaw] or [IhRaw] reads, in bytes; ok is false of others.
func (s Selector) Raw() (offset, length int, ok bool) {
	kind, argument := s.Kind()
	if kind != Selector(thRaw) && kind != Selector(ihRaw) {
		return 0, 0, false
	}
	return int(argument & (1<<rawOffsetBits - 1)), int(argument>>rawOffsetBits) + 1, true
}

// SocketCgroup reads the id of the ancestor of the socket's cgroup v2 that is
// level steps (1-255) below the root (NFT_SOCKET_CGROUPV2 of
// linux/netfilter/nf_tables.h, since Linux 5.13).
func SocketCgroup(level uint8) Key[CgroupID] {
	return socketCgroup | Key[CgroupID](level)<<argumentShift
}

const argumentShift = 16

// Kind is the selector without its argument, and the argument: the kind of every
// [SocketCgroup] is that of level 0, which no rule can read.
func (s Selector) Kind() (Selector, uint16) {
	return s & (1<<argumentShift - 1), uint16(s >> argumentShift)
}

type selectorInfo struct {
	text   string
	typ    DataType
	proto  Proto  // the transport protocol that the selector implies, if any
	family Family // the family that it implies, if any
}

var selectors = [...]selectorInfo{
	L4Proto:           {"meta l4proto", inetProto, 0, 0},
	NFProto:           {"meta nfproto", nfProto, 0, 0},
	MetaMark:          {"meta mark", markType, 0, 0},
	IIf:               {"meta iif", ifIndex, 0, 0},
	IIfName:           {"iifname", ifNameType, 0, 0},
	OIfName:           {"oifname", ifNameType, 0, 0},
	SkUID:             {"meta skuid", uidType, 0, 0},
	SkGID:             {"meta skgid", gid, 0, 0},
	IPSaddr:           {"ip saddr", ipv4Addr, 0, IPv4},
	IPDaddr:           {"ip daddr", ipv4Addr, 0, IPv4},
	IP6Saddr:          {"ip6 saddr", ipv6Addr, 0, IPv6},
	IP6Daddr:          {"ip6 daddr", ipv6Addr, 0, IPv6},
	TCPSport:          {"tcp sport", inetService, TCP, 0},
	TCPDport:          {"tcp dport", inetService, TCP, 0},
	UDPSport:          {"udp sport", inetService, UDP, 0},
	UDPDport:          {"udp dport", inetService, UDP, 0},
	ThSport:           {"th sport", inetService, 0, 0},
	ThDport:           {"th dport", inetService, 0, 0},
	CTMark:            {"ct mark", markType, 0, 0},
	CTStates:          {"ct state", ctState, 0, 0},
	CTZone:            {"ct zone", zone, 0, 0},
	fibSaddrType:      {"fib saddr type", fibAddrType, 0, 0},
	fibDaddrType:      {"fib daddr type", fibAddrType, 0, 0},
	SocketTransparent: {"socket transparent", boolean, 0, 0},
	SocketMark:        {"socket mark", markType, 0, 0},
	socketCgroup:      {"socket cgroupv2", cgroupsV2, 0, 0},
	Saddr:             {"saddr", noType, 0, 0},
	Daddr:             {"daddr", noType, 0, 0},
	TCPFlags:          {"tcp flags", tcpFlags, TCP, 0},
	CTOriginalZone:    {"ct original zone", zone, 0, 0},

	fibSaddrOIf:     {"fib saddr oif", ifIndex, 0, 0},
	fibDaddrOIf:     {"fib daddr oif", ifIndex, 0, 0},
	fibSaddrOIfName: {"fib saddr oifname", ifNameType, 0, 0},
	fibDaddrOIfName: {"fib daddr oifname", ifNameType, 0, 0},
	fibSaddrRoute:   {"fib saddr oif", presence, 0, 0},
	fibDaddrRoute:   {"fib daddr oif", presence, 0, 0},

	thRaw: {"@th", integer8, 0, 0},
	ihRaw: {"@ih", integer8, 0, 0},

	OIf: {"meta oif", ifIndex, 0, 0},
}

func (s Selector) info() selectorInfo {
	if kind, _ := s.Kind(); int(kind) < len(selectors) {
		return selectors[kind]
	}
	return selectorInfo{}
}

// String is the selector as nft writes it.
func (s Selector) String() string {
	text := s.info().text
	kind, argument := s.Kind()
	switch {
	case kind == Selector(socketCgroup):
		return fmt.Sprintf("%s level %d", text, argument)
	case kind == Selector(thRaw) || kind == Selector(ihRaw):
		offset, length, _ := s.Raw()
		return fmt.Sprintf("%s,%d,%d", text, 8*offset, 8*length)
	case isFib(kind) && argument != 0:
		return fibText(text, FibFlag(argument))
	}
	return text
}

// Type is the kind of value that the selector reads.
func (s Selector) Type() DataType {
	if _, length, ok := s.Raw(); ok {
		return integer8 + DataType(length) - 1
	}
	return s.info().typ
}

// Proto is the transport protocol that the selector implies, 0 for none.
func (s Selector) Proto() Proto { return s.info().proto }

// Family is the address family that the selector implies, 0 for none.
func (s Selector) Family() Family { return s.info().family }
