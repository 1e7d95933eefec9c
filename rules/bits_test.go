// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"testing"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		why    string
		got    Range
		lo, hi Bits
	}{
		{"a port has its bytes in the network's order", RangeOf(Port(0x1f90)), "\x1f\x90", "\x1f\x90"},
		{"a zone has two bytes", RangeOf(Zone(1)), "\x00\x01", "\x00\x01"},
		{"a protocol has one byte", RangeOf(TCP), "\x06", "\x06"},
		{"a family has one byte", RangeOf(IPv6), "\x0a", "\x0a"},
		{"a flag that is set is one", RangeOf(true), "\x01", "\x01"},
		{"a flag that is not set is zero", RangeOf(false), "\x00", "\x00"},
		{"a user id has its most significant byte first", RangeOf(UID(1337)), "\x00\x00\x05\x39", "\x00\x00\x05\x39"},
		{"a group id likewise", RangeOf(GID(1)), "\x00\x00\x00\x01", "\x00\x00\x00\x01"},
		{"a mark has all of its bits", RangeOf(Mark(0xffffffff)), "\xff\xff\xff\xff", "\xff\xff\xff\xff"},
		{"an address type is a number", RangeOf(Local), "\x00\x00\x00\x02", "\x00\x00\x00\x02"},
		{"connection states are bits", RangeOf(CTEstablished | CTNew), "\x00\x00\x00\x0a", "\x00\x00\x00\x0a"},
		{"an interface index is a number", RangeOf(IfIndex(2)), "\x00\x00\x00\x02", "\x00\x00\x00\x02"},
		{"a cgroup's id has eight bytes", RangeOf(CgroupID(258)), "\x00\x00\x00\x00\x00\x00\x01\x02", "\x00\x00\x00\x00\x00\x00\x01\x02"},
		{"an interface name is filled up with zeros", RangeOf(IfName("lo")), "lo" + zeros(14), "lo" + zeros(14)},
		{"a wildcard is every name that begins so", RangeOf(IfName("eth*")), "eth" + zeros(13), "eth" + ones(13)},
		{"a lone asterisk is every name", RangeOf(IfName("*")), zeros(16), ones(16)},
		{"an address is the prefix of all of its bits", RangeOf(prefix("192.0.2.1/32")), "\xc0\x00\x02\x01", "\xc0\x00\x02\x01"},
		{"bits of a prefix beyond its length do not count", RangeOf(prefix("10.1.2.3/8")), "\x0a\x00\x00\x00", "\x0a\xff\xff\xff"},
		{"a prefix may end within a byte", RangeOf(prefix("10.128.0.0/9")), "\x0a\x80\x00\x00", "\x0a\xff\xff\xff"},
		{"the prefix of no bits is every address", RangeOf(prefix("::/0")), zeros(16), ones(16)},
		{"no prefix spans nothing", RangeOf(netip.Prefix{}), "", ""},
		{"between two ports are both of them", RangeBetween(Port(80), Port(90)), "\x00\x50", "\x00\x5a"},
		{"between two prefixes is all of both", RangeBetween(prefix("10.0.0.0/24"), prefix("10.0.1.0/24")), "\x0a\x00\x00\x00", "\x0a\x00\x01\xff"},
	} {
		if want := (Range{tt.lo, tt.hi}); tt.got != want {
			t.Errorf("%s: got %x-%x, want %x-%x", tt.why, tt.got.Lo, tt.got.Hi, tt.lo, tt.hi)
		}
	}
}

func TestUint64(t *testing.T) {
	for b, want := range map[Bits]uint64{"": 0, "\x01": 1, "\x01\x02": 0x102, "\x00\x00\x00\x00\x00\x00\x00\x09": 9, "\xff\x01\x02\x03\x04\x05\x06\x07\x08": 0x102030405060708} {
		if got := b.Uint64(); got != want {
			t.Errorf("%q is %#x, want %#x", b, got, want)
		}
	}
}

func TestAfterAndBefore(t *testing.T) {
	for _, tt := range []struct {
		why   string
		last  Bits
		after Bits
		ok    bool
	}{
		{"the last byte counts up", "\x00\x50", "\x00\x51", true},
		{"a full byte carries", "\x00\xff", "\x01\x00", true},
		{"several full bytes carry", "\x0a\xff\xff\xff", "\x0b\x00\x00\x00", true},
		{"nothing comes after the last port", "\xff\xff", "", false},
		{"nothing comes after the last address", ones(16), "", false},
	} {
		r := Range{zeros(len(tt.last)), tt.last}
		after, ok := r.After()
		if after != tt.after || ok != tt.ok {
			t.Errorf("%s: got %x, %v", tt.why, after, ok)
		}
		if ok && after.Before() != tt.last {
			t.Errorf("%s: %x comes before %x", tt.why, after.Before(), after)
		}
		if ok && !follows(after, tt.last) {
			t.Errorf("%s: %x does not follow", tt.why, after)
		}
		if follows(zeros(len(tt.last)), tt.last) {
			t.Errorf("%s: zero follows", tt.why)
		}
	}
}

func TestPrefixBits(t *testing.T) {
	for _, tt := range []struct {
		why  string
		r    Range
		bits int
		ok   bool
	}{
		{"one address is a prefix of all bits", RangeOf(prefix("192.0.2.1/32")), 32, true},
		{"a prefix is itself", RangeOf(prefix("10.0.0.0/9")), 9, true},
		{"everything is a prefix of no bits", RangeOf(prefix("::/0")), 0, true},
		{"two prefixes that make one are one", RangeBetween(prefix("10.0.0.0/25"), prefix("10.0.0.128/25")), 24, true},
		{"two neighbours of different halves are none", RangeBetween(prefix("10.0.1.0/24"), prefix("10.0.2.0/24")), 0, false},
		{"a range that lacks its first value is none", RangeBetween(prefix("10.0.0.1/32"), prefix("10.0.0.255/32")), 0, false},
		{"a range that lacks its last value is none", RangeBetween(prefix("10.0.0.0/32"), prefix("10.0.0.254/32")), 0, false},
		{"ends of two lengths are none", Range{"\x00", "\x00\x01"}, 0, false},
	} {
		if bits, ok := tt.r.PrefixBits(); bits != tt.bits || ok != tt.ok {
			t.Errorf("%s: got %d, %v", tt.why, bits, ok)
		}
	}
}

func TestAddressFamily(t *testing.T) {
	for _, tt := range []struct {
		why, addr string
		want      Family
	}{
		{"four bytes are IPv4", "192.0.2.1", IPv4},
		{"sixteen are IPv6", "2001:db8::1", IPv6},
		{"a mapped address is IPv6, as its packets are", "::ffff:192.0.2.1", IPv6},
	} {
		if got := AddressFamily(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s: got %s", tt.why, got)
		}
	}
}
