// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestDivided: whatever a list holds, its parts fit, are within their networks, do not
// overlap, and together hold what the list holds.
func TestDivided(t *testing.T) {
	const largest = 64
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		f := []rules.Family{rules.IPv4, rules.IPv6}[r.IntN(2)]
		list := randomPrefixes(r, networks[f].Addr().BitLen(), r.IntN(1000))
		parts := divided(networks[f], slices.Clone(list), largest)
		for i, p := range parts {
			if len(p.list) > largest {
				t.Fatalf("%v: a part of %d", p.network, len(p.list))
			}
			if i > 0 && parts[i-1].network.Overlaps(p.network) {
				t.Fatalf("%v and %v overlap", parts[i-1].network, p.network)
			}
			for _, prefix := range p.list {
				if !p.network.Contains(prefix.Addr()) || prefix.Bits() < p.network.Bits() {
					t.Fatalf("%v is not within %v", prefix, p.network)
				}
			}
		}
		for _, prefix := range list {
			for _, a := range []netip.Addr{prefix.Addr(), prefix.Addr().Prev(), beyond(prefix)} {
				if a.IsValid() && inList(list, a) != inParts(parts, a) {
					t.Fatalf("%v: in the list %t, in the parts %t", a, inList(list, a), inParts(parts, a))
				}
			}
		}
	}
}

// randomPrefixes are prefixes near each other, so that some hold others.
func randomPrefixes(r *rand.Rand, length, n int) []netip.Prefix {
	shared := r.IntN(length / 2)
	var out []netip.Prefix
	for range n {
		bytes := make([]byte, length/8)
		for i := shared / 8; i < len(bytes); i++ {
			bytes[i] = byte(r.Uint32())
		}
		a, _ := netip.AddrFromSlice(bytes)
		bits := length - r.IntN(12)
		if r.IntN(100) == 0 {
			bits = r.IntN(length + 1)
		}
		out = append(out, netip.PrefixFrom(a, bits).Masked())
	}
	return out
}

// beyond is the first address after a prefix; not valid after the last.
func beyond(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last.Next()
}

func inList(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func inParts(parts []part, a netip.Addr) bool {
	return slices.ContainsFunc(parts, func(p part) bool { return p.network.Contains(a) && inList(p.list, a) })
}

// TestDividedListGrows: one prefix more changes the set of its network, and no rule.
func TestDividedListGrows(t *testing.T) {
	var list []string
	for i := range 20_000 {
		list = append(list, fmt.Sprintf("10.%d.%d.0/24", 3*i>>8, 3*i&255))
	}
	for _, c := range []Config{
		with(func(c *Config) { c.Outbound.ExcludeCIDRs = list }),
		{Mode: ModeAmbientPod, Outbound: Outbound{ExcludeCIDRs: list}},
	} {
		before, _, err := State(c, testEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		c.Outbound.ExcludeCIDRs = append(slices.Clone(list), "10.0.1.0/24")
		after, _, err := State(c, testEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		diff := before.Compare(after)
		other := func(d rules.Difference) bool { return !strings.Contains(d.Where, "outbound_exclude_10.0.0.0_9_ipv4") }
		if len(diff) == 0 || slices.ContainsFunc(diff, other) {
			t.Errorf("%s: %v", c.Mode, diff)
		}
	}
}
