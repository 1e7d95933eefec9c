// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// soak is whether the long tests are to be long.
var soak = os.Getenv("WEIR_SOAK") != ""

// howOften is the size of a test: of a normal run, or of a soak.
func howOften(normal, long int) int {
	if soak {
		return long
	}
	return normal
}

// TestRaces lets eight processes apply different states to one namespace, in
// bursts. After each burst the namespace holds one of them, whole: that of an
// apply after whose end no other began.
func TestRaces(t *testing.T) {
	const processes, burst = 8, 5
	n := newNamespace(t)
	n.nft("add table ip other; add chain ip other c; add rule ip other c counter comment \"of another\"")
	foreign := n.foreign()
	children := make([]*child, processes)
	for i := range children {
		children[i] = n.start("apply")
		children[i].hear()
	}
	outcomes := map[nft.Outcome]int{}
	var longest time.Duration
	rounds := howOften(5, 40)
	for round := range rounds {
		var all []played
		var mu sync.Mutex
		var group sync.WaitGroup
		for i, c := range children {
			group.Go(func() {
				for k := range burst {
					p := c.apply((i*7 + k*3 + round) % len(contenders()))
					mu.Lock()
					all = append(all, p)
					outcomes[p.outcome]++
					longest = max(longest, time.Duration(p.ended-p.began))
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if t.Failed() {
			return
		}
		winners := lastOf(all)
		live, err := n.conn().Read(context.Background(), tableName)
		if err != nil {
			t.Fatal(err)
		}
		holds := slices.IndexFunc(contenders(), func(s rules.State) bool { return len(live.Differences(s)) == 0 })
		if !slices.ContainsFunc(winners, func(p played) bool { return int(p.state) == holds }) {
			t.Fatalf("round %d: the namespace holds state %d, the last to apply were %v; from the first of them it differs in %v",
				round, holds, winners, live.Differences(stateNumber(int(winners[0].state))))
		}
		if left := n.tables(); len(left) != 1 {
			t.Errorf("tables %v are left", left)
		}
		if d := changed(foreign, n.foreign()); d != "" {
			t.Errorf("changed:\n%s", d)
		}
	}
	t.Logf("%d applies by %d processes: %v; the longest took %s", rounds*burst*processes, processes, outcomes, longest)
	if _, err := n.session().Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left := append(n.tables(), n.ours()...); len(left) > 0 {
		t.Errorf("left after the remove: %v", left)
	}
}

// lastOf are those applies that can have been the last to write: none of the
// others began after they ended.
func lastOf(all []played) []played {
	began := int64(0)
	for _, p := range all {
		began = max(began, p.began)
	}
	return slices.DeleteFunc(slices.Clone(all), func(p played) bool { return p.ended < began })
}

// TestVerifyWhileOthersApply verifies without rest while others apply: it waits
// or sees a state that was meant, never one in the making.
func TestVerifyWhileOthersApply(t *testing.T) {
	n := newNamespace(t)
	apply(t, n.session(), stateNumber(0), nft.Created)
	watcher := n.start("verify")
	watcher.hear()
	var group sync.WaitGroup
	for i := range 2 {
		c := n.start("apply")
		c.hear()
		group.Go(func() {
			for k := range howOften(100, 2000) {
				c.apply((i*5 + k*3) % len(contenders()))
			}
		})
	}
	group.Wait()
	watcher.say("enough")
	var looks, states int
	if _, err := fmt.Sscanf(watcher.hear(), "seen %d %d", &looks, &states); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d looks saw %d states", looks, states)
	if states < 1 {
		t.Errorf("%d looks at %d states are too few", looks, states)
	}
}

// TestManyNamespacesAtOnce applies from many goroutines to many namespaces, some
// by one connection.
func TestManyNamespacesAtOnce(t *testing.T) {
	const namespaces, workers = 12, 3
	rounds := howOften(4, 50)
	var group sync.WaitGroup
	for range namespaces {
		n := newNamespace(t)
		shared := n.conn()
		group.Go(func() {
			var inner sync.WaitGroup
			for i := range workers {
				c := shared
				if i == 0 {
					c = n.conn()
				}
				s := c.Session(tableName, "test")
				inner.Go(func() {
					for k := range rounds {
						if _, err := s.Apply(context.Background(), stateNumber((i*7+k*3)%len(contenders()))); err != nil {
							t.Errorf("apply: %v", err)
						}
					}
				})
			}
			inner.Wait()
			live, err := n.conn().Read(context.Background(), tableName)
			if err != nil {
				t.Error(err)
				return
			}
			if d, err := live.Drift(); err != nil || len(d) > 0 {
				t.Errorf("drift: %v, %v", d, err)
			}
			if left := n.tables(); len(left) != 1 {
				t.Errorf("tables %v are left", left)
			}
		})
	}
	group.Wait()
}

// TestLockOfAnotherIsWaitedFor holds the lock as another process would, for a
// moment: what writes waits for it, what reads does not.
func TestLockOfAnotherIsWaitedFor(t *testing.T) {
	n := newNamespace(t)
	s := n.session()
	apply(t, s, capture{}.state(), nft.Created)
	unlock := n.holdLock()
	for what, verb := range map[string]func(context.Context) error{
		"apply":  func(ctx context.Context) error { _, err := s.Apply(ctx, capture{tproxy: true}.state()); return err },
		"remove": func(ctx context.Context) error { _, err := n.session().Remove(ctx); return err },
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if err := verb(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s did not wait: %v", what, err)
		}
		cancel()
	}
	wantClean(t, n.session(), capture{}.state())
	start := time.Now()
	time.AfterFunc(100*time.Millisecond, unlock)
	r, err := s.Apply(context.Background(), capture{tproxy: true}.state())
	if err != nil || r.Outcome != nft.Replaced || r.LockHeld != nil {
		t.Errorf("apply: %+v, %v", r, err)
	}
	if waited := time.Since(start); waited < 90*time.Millisecond {
		t.Errorf("apply waited %s alone", waited)
	}
	wantClean(t, s, capture{tproxy: true}.state())
}
