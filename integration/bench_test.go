// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// BenchmarkOneElement adds and removes one prefix among 10,000, from a state
// that the session has read.
func BenchmarkOneElement(b *testing.B) {
	n := newNamespace(b)
	s := n.session()
	ten := manyPrefixes(10000)
	states := []rules.State{capture{exclude: ten}.state(), capture{exclude: append(slices.Clone(ten), netip.MustParsePrefix("30.0.0.1/32"))}.state()}
	benchmarkApply(b, s, states)
}

// BenchmarkReplace replaces the rules of a sidecar.
func BenchmarkReplace(b *testing.B) {
	states := []rules.State{capture{}.state(), capture{verdicts: []rules.Port{80}}.state()}
	benchmarkApply(b, newNamespace(b).session(), states)
}

// BenchmarkReplaceRouting replaces rules, policy rules, routes and an address.
func BenchmarkReplaceRouting(b *testing.B) {
	states := []rules.State{capture{}.state(), capture{tproxy: true}.state()}
	benchmarkApply(b, newNamespace(b).session(), states)
}

// BenchmarkUnchanged reads all, compares and sends nothing.
func BenchmarkUnchanged(b *testing.B) {
	state := capture{}.state()
	n := newNamespace(b)
	apply(b, n.session(), state, nft.Created)
	c := n.conn()
	b.ReportAllocs()
	for b.Loop() {
		apply(b, c.Session(tableName, "test"), state, nft.Unchanged)
	}
}

func benchmarkApply(b *testing.B, s *nft.Session, states []rules.State) {
	for _, state := range states {
		if _, err := s.Apply(context.Background(), state); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Apply(context.Background(), states[i%len(states)]); err != nil {
			b.Fatal(err)
		}
	}
}
