// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// sized is a state of some rules with a list of excluded addresses.
func sized(excluded int) rules.State {
	t := rulesTable()
	var list []rules.Range
	for i := range excluded {
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 20<<24|uint32(i)<<1)))
		list = append(list, rules.RangeOf(netip.PrefixFrom(a, 32)))
	}
	rules.IPDaddr.AddSet(t, "long", list...)
	return rules.State{Table: t}
}

func sizes(b *testing.B, run func(*testing.B, rules.State)) {
	for _, excluded := range []int{10, 10000} {
		b.Run(fmt.Sprint(excluded), func(b *testing.B) {
			state := sized(excluded).Normal()
			b.ReportAllocs()
			b.ResetTimer()
			run(b, state)
		})
	}
}

func BenchmarkPrint(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		for b.Loop() {
			_ = s.Print(io.Discard)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		for b.Loop() {
			_ = s.Check()
		}
	})
}

func BenchmarkNormal(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		for b.Loop() {
			s.Normal()
		}
	})
}

func BenchmarkHash(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		for b.Loop() {
			s.Hash()
		}
	})
}

func BenchmarkCompare(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		have := sized(len(s.Table.Set("long").Elements)).Normal()
		for b.Loop() {
			s.Compare(have)
		}
	})
}

// BenchmarkElementChange is what an apply asks of two states that differ in one
// element.
func BenchmarkElementChange(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		have := sized(len(s.Table.Set("long").Elements) + 1).Normal()
		for b.Loop() {
			s.Hash()
			if !s.Normal().ChangesFrom(have).ElementsOnly {
				b.Fatal("more than elements differs")
			}
		}
	})
}
