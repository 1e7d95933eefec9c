// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// largeNode is how many pods a large node has.
const largeNode = 250

// newLargeNode is a machine of so many pods, of which ten need settings.
func newLargeNode(t testing.TB) *testNode {
	t.Helper()
	const settings = 10
	n := newTestNode(t, largeNode-settings)
	for i := range settings {
		n.addPod(fmt.Sprintf("untracked-%d", i), untracked)
	}
	return n
}

// soakTime is how long a soak takes: WEIR_SOAK_TIME, or so long without.
func soakTime(t testing.TB, otherwise time.Duration) time.Duration {
	t.Helper()
	if os.Getenv("WEIR_SOAK") == "" {
		t.Skip("WEIR_SOAK=1 runs it")
	}
	word := os.Getenv("WEIR_SOAK_TIME")
	if word == "" {
		return otherwise
	}
	limit, err := time.ParseDuration(word)
	if err != nil {
		t.Fatal(err)
	}
	return limit
}

// TestDriftAtScale: in 250 namespaces something drifts every 100 ms for five minutes (WEIR_SOAK_TIME), each
// namespace in its turn: all is noticed and healed, and a namespace that nobody touched is told of once.
func TestDriftAtScale(t *testing.T) {
	t.Parallel()
	limit := soakTime(t, 5*time.Minute)
	need(t, "nft", "ip")
	const pods, untouched, settings = largeNode, 20, 10
	n := newLargeNode(t)
	start := time.Now()
	n.start()
	n.settledWithin(2 * time.Minute)
	t.Logf("%d namespaces found and captured in %s", pods, time.Since(start).Round(time.Millisecond))
	var noticed, healed, polled []time.Duration // those that the kernel tells of, and those that it does not
	var under sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, 8+settings) // a machine that is too slow for ten a second has fewer
	turns, touched := map[string]int{}, map[*testPod]bool{}
	inTurn := func(d drift) *testPod {
		all := n.podsOf(d)
		turns[d.config]++
		return all[turns[d.config]%(len(all)*(pods-untouched)/pods)]
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var early *scratch.Usage // once every namespace has drifted
	for i, end := 0, time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); i++ {
		if i == pods {
			early = usage(t)
		}
		<-tick.C
		d := drifts[i%len(drifts)]
		p := inTurn(d)
		touched[p] = true
		slots <- struct{}{}
		under.Go(func() {
			defer func() { <-slots }()
			a, b := n.drift(p, d)
			mu.Lock()
			defer mu.Unlock()
			if d.config == "" {
				noticed, healed = append(noticed, a), append(healed, b)
			} else {
				polled = append(polled, b)
			}
		})
	}
	under.Wait()
	for _, p := range n.pods {
		if got := n.told.of(p.name); !touched[p] && len(got) != 1 {
			t.Errorf("%s, which nobody touched, is told of %d times", p.name, len(got))
		}
	}
	slices.Sort(noticed)
	slices.Sort(healed)
	slices.Sort(polled)
	now := usage(t)
	total := len(noticed) + len(polled)
	t.Logf("%d drifts of %d kinds, %.1f a second, each with its writer: noticed in %s (median) and %s (worst), healed in %s and %s from before the change; settings, which are read from time to time, in %s and %s; %d overruns; %s, %d goroutines",
		total, len(drifts), float64(total)/limit.Seconds(), noticed[len(noticed)/2], noticed[len(noticed)-1], healed[len(healed)/2], healed[len(healed)-1],
		polled[len(polled)/2], polled[len(polled)-1], n.told.overruns, now, runtime.NumGoroutine())
	if early == nil {
		t.Logf("after fewer than %d drifts nothing is told of growth", pods)
	} else if err := now.Grown(*early); err != nil {
		t.Error(err)
	} else {
		t.Logf("after %d drifts it was %s", pods, early)
	}
}

// usage is what the test's process holds, the test's own included.
func usage(t *testing.T) *scratch.Usage {
	u, err := scratch.UsageNow()
	if err != nil {
		t.Fatal(err)
	}
	return &u
}
