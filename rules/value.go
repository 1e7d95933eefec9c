// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
)

// Port is a transport port, 0-65535 (tcp(7), udp(7)).
type Port uint16

// UID is a user id as seen by the network namespace's owning user namespace.
type UID uint32

// GID is a group id as seen by the network namespace's owning user namespace.
type GID uint32

// IfName is an interface name of 1 to 15 bytes. A trailing "*" matches every name
// that begins with the 1 to 14 bytes before it.
type IfName string

// Mark is a packet or connection mark.
type Mark uint32

// Proto is an internet protocol number (RFC 5237).
type Proto uint8

// Transport protocols.
const (
	ICMP   Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
)

// Family is the address family of a packet: NFPROTO_IPV4 or NFPROTO_IPV6 of
// linux/netfilter.h.
type Family uint8

// Address families.
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

var bothFamilies = []Family{IPv4, IPv6}

func (f Family) String() string { return symbol(familyNames, uint64(f)) }

// AddressFamily is the family of an address, IPv6 for an IPv4-mapped one.
func AddressFamily(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// AddrType is a routing type of linux/rtnetlink.h, as fib looks it up.
type AddrType uint32

// Address types.
const (
	Unicast   AddrType = 1
	Local     AddrType = 2
	Broadcast AddrType = 3
	Multicast AddrType = 5
)

// Presence says whether what a selector looks for is there.
type Presence uint32

// Presences.
const (
	Missing Presence = 0
	Exists  Presence = 1
)

// CTState is a set of connection states, as bits of
// NF_CT_STATE_BIT (net/netfilter/nf_conntrack.h).
type CTState uint32

// Connection states.
const (
	CTInvalid     CTState = 1
	CTEstablished CTState = 2
	CTRelated     CTState = 4
	CTNew         CTState = 8
	CTUntracked   CTState = 64
)

// TCPFlag is a set of control bits of a TCP header (RFC 9293, section 3.1).
type TCPFlag uint8

// TCP flags, named as nft names them.
const (
	FIN TCPFlag = 1 << iota
	SYN
	RST
	psh
	ACK
	urg
	ECN // the echo of a congestion mark
	CWR
)

// Zone is a conntrack zone.
type Zone uint16

// IfIndex is an interface index; 0 is none.
type IfIndex uint32

// CgroupID is the id of a cgroup v2 directory (its inode number).
type CgroupID uint64

// Raw is bytes of a packet, 1 to 8 of them, as they stand there.
type Raw string

// Value is everything that a selector can be compared with.
type Value interface {
	Port | UID | GID | IfName | Mark | Proto | Family | AddrType | Presence | CTState | TCPFlag | Zone | bool | IfIndex | CgroupID | Raw | netip.Prefix
}
