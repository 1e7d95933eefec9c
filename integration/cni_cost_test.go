//go:build linux

package integration

import (
	"slices"
	"testing"
	"time"
)

// maxAddCPU is far above what an ADD takes (see make bench): the test's machine may be busy, and counts its
// caches' misses as the plugin's.
const maxAddCPU = 40 * time.Millisecond

// TestCNICost: an ADD that captures takes little of the processor.
func TestCNICost(t *testing.T) {
	if testing.Short() {
		t.Skip("measures")
	}
	p := newCNIPod(t, "198.18.0.2/24", "2001:db8:18::2/64")
	var all []time.Duration
	for range 20 {
		call := p.call(sidecarPod)
		all = append(all, p.plugin("ADD", call).mustCost(t))
		p.plugin("DEL", call).succeeded(t)
	}
	slices.Sort(all)
	if median := all[len(all)/2]; median > maxAddCPU {
		t.Errorf("the median of %d ADDs is %s of CPU, want at most %s", len(all), median, maxAddCPU)
	} else {
		t.Logf("median %s, %s to %s", median, all[0], all[len(all)-1])
	}
}

// mustCost is the user and system time of a call that must not fail.
func (o outcome) mustCost(t testing.TB) time.Duration {
	t.Helper()
	o.succeeded(t)
	return o.cpu
}
