// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
)

// DataType is a kind of value, named as nft names it in `type` declarations.
type DataType uint8

// Data types, see "DATA TYPES" in nft(8).
const (
	noType DataType = iota
	inetService
	inetProto
	nfProto
	ipv4Addr
	ipv6Addr
	ifNameType
	ifIndex
	markType
	uidType
	gid
	ctState
	fibAddrType
	zone
	boolean
	cgroupsV2
	tcpFlags
	presence
	integer8 // numbers of 1 to 8 bytes, the first that of 1
)

// typeInfo is what is to know of a data type. Magic is nft's own number for it
// (enum datatypes of nftables' datatype.h), which set declarations carry.
type typeInfo struct {
	name   string
	magic  uint32
	length int
	host   bool // host byte order in the kernel
	format func(Bits) string
}

func (d DataType) info() typeInfo {
	if d.raw() {
		return typeInfo{"", 0, int(d-integer8) + 1, false, rawHex} // nft declares no set of its type for them
	}
	if int(d) < len(dataTypes) {
		return dataTypes[d]
	}
	return typeInfo{}
}

var dataTypes = [...]typeInfo{
	inetService: {"inet_service", 13, 2, false, decimal},
	inetProto:   {"inet_proto", 12, 1, false, named(protoNames)},
	nfProto:     {"nf_proto", 2, 1, false, named(familyNames)},
	ipv4Addr:    {"ipv4_addr", 7, 4, false, address},
	ipv6Addr:    {"ipv6_addr", 8, 16, false, address},
	ifNameType:  {"ifname", 41, ifNameSize, true, quotedName},
	ifIndex:     {"iface_index", 20, 4, true, decimal},
	markType:    {"mark", 19, 4, true, hex32},
	uidType:     {"uid", 24, 4, true, decimal},
	gid:         {"gid", 25, 4, true, decimal},
	ctState:     {"ct_state", 26, 4, true, bitNames(stateNames)},
	fibAddrType: {"fib_addrtype", 38, 4, true, named(addrTypeNames)},
	zone:        {"", 0, 2, true, decimal},  // nft has no name for its type: no set can hold zones
	boolean:     {"", 0, 1, false, decimal}, // nft 1.0.6 declares sets of booleans, and lets nothing be looked up there
	cgroupsV2:   {"cgroupsv2", 46, 8, true, decimal},
	tcpFlags:    {"tcp_flag", 15, 1, false, bitNames(tcpFlagNames)},
	presence:    {"", 0, 4, true, named(presenceNames)}, // nft has no type for it
}

// String is nft's name of the type.
func (d DataType) String() string { return d.info().name }

// Len is the length of a value in bytes.
func (d DataType) Len() int { return d.info().length }

// HostOrder reports whether the kernel holds values of this type in the
// machine's own byte order. Interface names do not count: they are strings.
func (d DataType) HostOrder() bool { return d.info().host && d != ifNameType }

// bitmask reports whether the bits of a value have names: nft takes a plain value
// of such a type for any of its bits.
func (d DataType) bitmask() bool { return d == ctState || d == tcpFlags }

// Magic is the number by which nft knows the type, and whether it takes its
// keys to be in host byte order: both travel with a set for nft's sake.
func (d DataType) Magic() (number uint32, host bool) { return d.info().magic, d.info().host }

// Format is the value as nft writes it.
func (d DataType) Format(b Bits) string {
	if f := d.info().format; f != nil && len(b) == d.Len() {
		return f(b)
	}
	return fmt.Sprintf("0x%x", string(b))
}

// FormatRange is the range as nft writes it: a value, a prefix, a wildcard, or
// the two ends.
func (d DataType) FormatRange(r Range) string {
	if r.Single() {
		return d.Format(r.Lo)
	}
	bits, isPrefix := r.PrefixBits()
	switch {
	case isPrefix && (d == ipv4Addr || d == ipv6Addr):
		return d.Format(r.Lo) + "/" + strconv.Itoa(bits)
	case isPrefix && d == ifNameType && bits%8 == 0:
		return quote(string(r.Lo[:bits/8]) + "*")
	case d == ifNameType:
		return unknown(fmt.Sprintf("names from %q to %q", r.Lo, r.Hi))
	case d == inetProto: // nft takes no names in a range
		return decimal(r.Lo) + "-" + decimal(r.Hi)
	}
	return d.Format(r.Lo) + "-" + d.Format(r.Hi)
}

type name struct {
	value uint64
	text  string
}

var (
	protoNames    = []name{{1, "icmp"}, {6, "tcp"}, {17, "udp"}, {33, "dccp"}, {58, "ipv6-icmp"}, {132, "sctp"}, {136, "udplite"}}
	familyNames   = []name{{2, "ipv4"}, {10, "ipv6"}}
	addrTypeNames = []name{{1, "unicast"}, {2, "local"}, {3, "broadcast"}, {4, "anycast"}, {5, "multicast"}, {6, "blackhole"}, {7, "unreachable"}, {8, "prohibit"}}
	presenceNames = []name{{0, "missing"}, {1, "exists"}}
	stateNames    = []name{{1, "invalid"}, {2, "established"}, {4, "related"}, {8, "new"}, {64, "untracked"}}
	tcpFlagNames  = []name{{1, "fin"}, {2, "syn"}, {4, "rst"}, {8, "psh"}, {16, "ack"}, {32, "urg"}, {64, "ecn"}, {128, "cwr"}}
)

func symbol(names []name, v uint64) string {
	for _, n := range names {
		if n.value == v {
			return n.text
		}
	}
	return strconv.FormatUint(v, 10)
}

func named(names []name) func(Bits) string {
	return func(b Bits) string { return symbol(names, b.Uint64()) }
}

func decimal(b Bits) string { return strconv.FormatUint(b.Uint64(), 10) }

func hex32(b Bits) string { return fmt.Sprintf("0x%08x", b.Uint64()) }

func address(b Bits) string {
	a, _ := netip.AddrFromSlice([]byte(b))
	return a.String()
}

// rawHex is a number of the packet's bytes as nft reads it: with every leading zero left
// out, for it takes the length from what it is compared with.
func rawHex(b Bits) string { return "0x" + strconv.FormatUint(b.Uint64(), 16) }

// quotedName is an exact name. nft takes an asterisk at the end for a wildcard.
func quotedName(b Bits) string {
	text := strings.TrimRight(string(b), "\x00")
	if stem, ok := strings.CutSuffix(text, "*"); ok {
		text = stem + `\*`
	}
	return quote(text)
}

// quote quotes a name or a comment. nft has no escapes: its own hold nothing that
// needs one, and others' are shown, not loaded.
func quote(s string) string { return `"` + strings.ReplaceAll(escape.Text(s), `"`, `\"`) + `"` }

// bitNames formats values of a type whose bits have names.
func bitNames(names []name) func(Bits) string {
	return func(b Bits) string {
		v := b.Uint64()
		var words []string
		for _, n := range names {
			if v&n.value != 0 {
				words = append(words, n.text)
				v &^= n.value
			}
		}
		if v != 0 || len(words) == 0 {
			return fmt.Sprintf("0x%x", b.Uint64())
		}
		return strings.Join(words, " | ")
	}
}
