// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"testing"

	"github.com/weir-mesh/weir/modes"
)

func BenchmarkClasses(b *testing.B) {
	c := modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}, GIDs: []string{"1337"}}}
	want, err := RulesOf(c, modes.Environment{IPv6: true, LoopbackIPv6: true})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := want.Classes(Pod()); err != nil {
			b.Fatal(err)
		}
	}
}
