// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/internal/zds/zdstest"
)

// ztunnel is a proxy that lasts: it connects whenever it is not, and knows what it serves meanwhile.
type ztunnel struct {
	socket string

	mu     sync.Mutex
	conn   *zdstest.Proxy
	serves map[string]uint64 // namespaces by UID
	whole  bool              // its snapshot of this connection is complete
	faults []error
}

// run connects until the context ends.
func (z *ztunnel) run(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := zdstest.Dial(z.socket)
		if err != nil { // the server is away
			time.Sleep(time.Millisecond)
			continue
		}
		z.mu.Lock()
		z.conn, z.whole = conn, false
		z.mu.Unlock()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		z.talk(conn)
		stop()
		conn.Close()
	}
}

func (z *ztunnel) talk(conn *zdstest.Proxy) {
	seen := map[string]bool{}
	for {
		r, ns, err := conn.Next()
		if err != nil {
			return
		}
		z.mu.Lock()
		if z.conn != conn { // it was restarted since
			z.mu.Unlock()
			if ns != nil {
				ns.Close()
			}
			return
		}
		uid := r.Workload.UID
		switch r.Kind {
		case zds.Add:
			id, err := number(ns)
			if err != nil {
				z.faults = append(z.faults, err)
			}
			z.serves[uid], seen[uid] = id, true
		case zds.Keep:
			seen[uid] = true
		case zds.Del:
			if _, served := z.serves[uid]; !served {
				z.faults = append(z.faults, fmt.Errorf("Del %s, which is not served", uid))
			}
			delete(z.serves, uid)
		case zds.SnapshotSent:
			maps.DeleteFunc(z.serves, func(uid string, _ uint64) bool { return !seen[uid] })
			z.whole = true
		}
		z.mu.Unlock()
		if conn.Ack("") != nil {
			return
		}
	}
}

// restart hangs up; a process that ends forgets what it served too.
func (z *ztunnel) restart(forget bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.conn != nil {
		z.conn.Close()
		z.conn = nil
	}
	z.whole = false
	if forget {
		clear(z.serves)
	}
}

// differs is how what it serves is not what is wanted, "" where it is.
func (z *ztunnel) differs(want map[string]uint64) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	switch {
	case !z.whole:
		return "its snapshot is not complete"
	case !maps.Equal(z.serves, want):
		return fmt.Sprintf("it serves %v, want %v", slices.Sorted(maps.Keys(z.serves)), slices.Sorted(maps.Keys(want)))
	}
	return ""
}

func number(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	return inodeOf(info), f.Close()
}

// TestRounds enrols and releases pods while either side is restarted at random: no pod is lost, none is
// served that has gone, and no descriptor stays open. WEIR_SOAK has 20,000 rounds.
func TestRounds(t *testing.T) {
	rounds := 1000
	if os.Getenv("WEIR_SOAK") != "" {
		rounds = 20_000
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	before := openFiles(t)

	socket := filepath.Join(t.TempDir(), "z.sock")
	z := &ztunnel{socket: socket, serves: map[string]uint64{}}
	ctx, cancel := context.WithCancel(t.Context())
	var proxy sync.WaitGroup
	proxy.Go(func() { z.run(ctx) })

	// What there is: the kernel's truth, which outlives both sides.
	there, wanted := map[string]*os.File{}, map[string]uint64{}
	s := zds.New(zds.Options{}).WithoutPause()
	stop := serve(t, s, socket)
	restarts, worst := map[string]int{}, time.Duration(0)
	for i := range rounds {
		uid := fmt.Sprintf("pod-%d", random.IntN(40))
		switch held := there[uid]; {
		case held != nil && random.IntN(3) > 0:
			s.Release(uid)
			held.Close()
			delete(there, uid)
			delete(wanted, uid)
		default: // new, or made anew
			ns := file(t)
			start := time.Now()
			limit, done := context.WithTimeout(t.Context(), time.Minute)
			if err := s.Enrol(limit, workload(uid), int(ns.Fd())); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			done()
			worst = max(worst, time.Since(start))
			if held != nil {
				held.Close()
			}
			there[uid], wanted[uid] = ns, inode(t, ns)
		}
		switch random.IntN(10) {
		case 0:
			restarts["connection"]++
			z.restart(false)
		case 1:
			restarts["proxy"]++
			z.restart(true)
		case 2:
			restarts["agent"]++
			settled(t, z, wanted) // so that it serves what Keep is about
			stop()
			s = zds.New(zds.Options{}).WithoutPause()
			for uid, ns := range there {
				if random.IntN(4) == 0 { // a namespace that is not found yet
					s.KeepServed(workload(uid))
				} else if err := s.Prepare(workload(uid), int(ns.Fd())); err != nil {
					t.Fatal(err)
				}
			}
			stop = serve(t, s, socket)
			if random.IntN(2) == 0 { // it is found soon
				for uid, ns := range there {
					if err := s.Prepare(workload(uid), int(ns.Fd())); err != nil {
						t.Fatal(err)
					}
				}
			} else { // or the proxy must not forget before it is
				settled(t, z, wanted)
				for uid, ns := range there {
					if err := s.Prepare(workload(uid), int(ns.Fd())); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if i%10 == 9 {
			settled(t, z, wanted)
		}
	}
	settled(t, z, wanted)
	t.Logf("%d rounds, restarts %v, %d pods at the end, the longest enrolment %s", rounds, restarts, len(there), worst.Round(time.Millisecond))
	for _, ns := range there {
		ns.Close()
	}
	stop()
	cancel()
	proxy.Wait()
	if z.faults != nil {
		t.Error(errors.Join(z.faults...))
	}
	if after := openFiles(t); after > before+2 { // what the runtime's poller holds
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
}

// settled waits until the proxy serves exactly what is wanted.
func settled(t *testing.T, z *ztunnel, want map[string]uint64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		differs := z.differs(want)
		if differs == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatal(differs)
		}
	}
}
