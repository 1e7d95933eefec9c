// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stage is a namespace that a test changes, with a ruleset that is either right or not.
type stage struct {
	mu         sync.Mutex
	keeper     *Keeper
	wrong      bool
	fails      error
	generation uint32
	looks      int
	heals      []time.Time
	findings   []Finding
	rival      bool // puts its own back after each heal
}

func (s *stage) change(writer string) {
	s.mu.Lock()
	s.wrong = true
	s.generation++
	c := Cause{Generation: s.generation, Writer: writer, Objects: []string{"rule"}}
	s.mu.Unlock()
	s.keeper.Changed(1, c)
}

func (s *stage) work(_ context.Context, _ Key, o Order) (r Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	r.Seen = s.generation
	switch {
	case s.fails != nil:
		r.Err = s.fails
		return r
	case !s.wrong:
		r.Generation = s.generation
		return r
	}
	r.Differences = []string{"rule 1 differs"}
	if !o.Heal {
		return r
	}
	s.wrong = false
	s.generation += 3
	s.heals = append(s.heals, time.Now())
	r.Healed, r.Outcome, r.Generation = true, "replaced", s.generation
	own := s.generation
	go s.keeper.Changed(1, Cause{Generation: own, Writer: "weir-node"})
	if s.rival {
		time.AfterFunc(time.Millisecond, func() { s.change("rival, PID 7") })
	}
	return r
}

func (s *stage) tell(f Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings = append(s.findings, f)
}

// seen is what happened so far.
func (s *stage) seen() (heals []time.Time, looks int, findings []Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heals), s.looks, slices.Clone(s.findings)
}

func inStage(t *testing.T, do func(*testing.T, *stage)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &stage{generation: 1}
		s.keeper = New(ctx, s.work, s.tell, DefaultLimits())
		s.keeper.Add(1)
		synctest.Wait()
		do(t, s)
		s.mu.Lock()
		s.rival = false
		s.mu.Unlock()
		cancel()
		s.keeper.Wait()
		time.Sleep(time.Hour) // whatever still waits ends
	})
}

// TestHeal: a change is looked at after 50 ms and healed, its writer is named, and the heal's own commits are
// looked at no more.
func TestHeal(t *testing.T) {
	inStage(t, func(t *testing.T, s *stage) {
		s.change("nft, PID 4711")
		time.Sleep(49 * time.Millisecond)
		synctest.Wait()
		if heals, _, _ := s.seen(); len(heals) > 0 {
			t.Error("healed before further changes could come")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		heals, looks, findings := s.seen()
		if len(heals) != 1 || looks != 3 {
			t.Errorf("%d heals, %d looks", len(heals), looks)
		}
		got := findings[len(findings)-1]
		if !got.Healed || !slices.Equal(got.Writers, []string{"nft, PID 4711"}) || got.Noticed != 50*time.Millisecond {
			t.Errorf("%+v", got)
		}
	})
}

// TestHarmless: commits that change nothing of weir's are looked at, and told to nobody; without end they are
// looked at no more than every two seconds.
func TestHarmless(t *testing.T) {
	inStage(t, func(t *testing.T, s *stage) {
		_, _, before := s.seen()
		for range 6000 {
			s.mu.Lock()
			s.generation++
			g := s.generation
			s.mu.Unlock()
			s.keeper.Changed(1, Cause{Generation: g, Writer: "kube-proxy"})
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		_, looks, findings := s.seen()
		if len(findings) != len(before) {
			t.Errorf("told: %+v", findings[len(before):])
		}
		if looks > 400 {
			t.Errorf("%d looks in a minute", looks)
		}
	})
}

// TestFight: another program that puts its own back at once is healed ten times with longer and longer pauses,
// then left until a sweep, and named.
func TestFight(t *testing.T) {
	inStage(t, func(t *testing.T, s *stage) {
		s.mu.Lock()
		s.rival = true
		s.mu.Unlock()
		s.change("rival, PID 7")
		time.Sleep(time.Hour)
		synctest.Wait()
		heals, _, findings := s.seen()
		if len(heals) != DefaultLimits().Most {
			t.Fatalf("%d heals in an hour", len(heals))
		}
		last := heals[len(heals)-1].Sub(heals[len(heals)-2])
		if last < 5*time.Second {
			t.Errorf("the last pause was %s", last)
		}
		if !slices.ContainsFunc(findings, func(f Finding) bool { return f.GaveUp && slices.Contains(f.Writers, "rival, PID 7") }) {
			t.Errorf("it is not told: %+v", findings)
		}
		s.keeper.Sweep()
		time.Sleep(time.Minute)
		synctest.Wait()
		if heals, _, _ = s.seen(); len(heals) != DefaultLimits().Most+1 {
			t.Errorf("%d heals after a sweep", len(heals))
		}
	})
}

// TestFailure: an error is told once, tried again with longer and longer pauses up to a minute, and told when it
// is over.
func TestFailure(t *testing.T) {
	inStage(t, func(t *testing.T, s *stage) {
		_, _, before := s.seen()
		s.mu.Lock()
		s.fails = errors.New("not permitted")
		s.mu.Unlock()
		s.keeper.Look(1)
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, looks, _ := s.seen(); looks < 60 || looks > 80 {
			t.Errorf("%d looks in an hour", looks)
		}
		s.mu.Lock()
		s.fails = nil
		s.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		_, _, findings := s.seen()
		told := findings[len(before):]
		if len(told) != 2 || told[0].Err == nil || told[1].Err != nil {
			t.Errorf("told %+v", told)
		}
	})
}

// TestForgotten: a namespace that has gone is looked at no more.
func TestForgotten(t *testing.T) {
	inStage(t, func(t *testing.T, s *stage) {
		s.keeper.Forget(1)
		s.change("nft")
		s.keeper.Sweep()
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, looks, _ := s.seen(); looks != 2 { // with that at what others have
			t.Errorf("%d looks", looks)
		}
	})
}

// TestLateNotification: a look that comes before the notification of what it finds, even whole, tells the writer all
// the same, and waits for it no longer than a debounce.
func TestLateNotification(t *testing.T) {
	inStage(t, func(t *testing.T, s *stage) {
		for i, late := range []time.Duration{20 * time.Millisecond, time.Second} {
			s.mu.Lock()
			s.wrong = true
			s.generation++
			c := Cause{Generation: s.generation, Writer: "nft, PID 7", Objects: []string{"rule"}}
			s.mu.Unlock()
			start := time.Now()
			s.keeper.Look(1)
			time.AfterFunc(late, func() { s.keeper.Changed(1, c) })
			synctest.Wait()
			time.Sleep(DefaultLimits().Debounce)
			synctest.Wait()
			_, _, findings := s.seen()
			if len(findings) != i+2 { // with the first look
				t.Fatalf("after %s: %+v", time.Since(start), findings)
			}
			got := findings[i+1]
			if want := late < DefaultLimits().Debounce; !got.Healed || slices.Equal(got.Writers, []string{"nft, PID 7"}) != want {
				t.Errorf("heard after %s: %+v", late, got)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestWaitingForTurns: while no look can begin, any number of changes wait as one.
func TestWaitingForTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		limits := DefaultLimits()
		limits.AtOnce = 1
		var mu sync.Mutex
		looks := map[Key]int{}
		slow := make(chan struct{})
		k := New(ctx, func(_ context.Context, key Key, _ Order) Result {
			mu.Lock()
			looks[key]++
			mu.Unlock()
			if key == 1 {
				<-slow
			}
			return Result{Gone: key == 1}
		}, func(Finding) {}, limits)
		k.Add(1)
		synctest.Wait()
		k.Add(2)
		before := runtime.NumGoroutine()
		for i := range uint32(1000) {
			k.Look(2)
			k.Changed(2, Cause{Generation: i + 1})
			time.Sleep(100 * time.Millisecond)
		}
		if n := runtime.NumGoroutine() - before; n > 10 {
			t.Errorf("%d goroutines more", n)
		}
		close(slow)
		time.Sleep(time.Second)
		mu.Lock()
		if n := looks[2]; n < 1 || n > 3 {
			t.Errorf("%d looks", n)
		}
		mu.Unlock()
		cancel()
		k.Wait()
		time.Sleep(time.Hour)
	})
}

// TestSenders: routing that is changed while a look goes on is another's, with its writer, unless the look changed it
// itself.
func TestSenders(t *testing.T) {
	for _, tt := range []struct {
		why  string
		port uint32
		want []string
	}{
		{"another's", 4711, []string{"netlink port 4711"}},
		{"its own", 0xfffff000, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var found []Finding
			var k *Keeper
			looks := 0
			k = New(ctx, func(context.Context, Key, Order) Result {
				if looks++; looks != 3 { // the first two are those of its beginning
					return Result{Seen: 1, Generation: 1}
				}
				k.Changed(1, Cause{Writer: fmt.Sprintf("netlink port %d", tt.port), Sender: tt.port, Objects: []string{"route"}})
				time.Sleep(time.Millisecond)
				return Result{Seen: 1, Generation: 1, Differences: []string{"route is missing"}, Healed: true, Senders: []uint32{0xfffff000}}
			}, func(f Finding) { found = append(found, f) }, DefaultLimits())
			k.Add(1)
			synctest.Wait()
			k.Look(1)
			time.Sleep(time.Minute)
			synctest.Wait()
			last := found[len(found)-1]
			if !last.Healed || !slices.Equal(last.Writers, tt.want) {
				t.Errorf("%s: told %+v", tt.why, last)
			}
			if !last.Heard.IsZero() != (tt.want != nil) {
				t.Errorf("%s: heard at %s", tt.why, last.Heard)
			}
			cancel()
			k.Wait()
			time.Sleep(time.Hour)
		})
	}
}

// TestSince: a difference is by what was heard since the last look, what others have there also by what was heard
// before it.
func TestSince(t *testing.T) {
	then := time.Now()
	before := heard{then, []string{"iptables, PID 1"}, []string{"chain"}}
	now := heard{then.Add(time.Minute), []string{"nft, PID 2"}, []string{"rule"}}
	both := []string{"iptables, PID 1", "nft, PID 2"}
	for _, tt := range []struct {
		why     string
		result  Result
		at      time.Time
		writers []string
	}{
		{"a difference", Result{Differences: []string{"a rule is missing"}}, now.at, now.writers},
		{"a chain in the way", Result{Conflicts: []string{"a chain drops"}}, before.at, both},
		{"both", Result{Differences: []string{"a rule is missing"}, Conflicts: []string{"a chain drops"}}, now.at, both},
	} {
		got := now.since(before, tt.result)
		if !got.at.Equal(tt.at) || !slices.Equal(got.writers, tt.writers) {
			t.Errorf("%s: %+v", tt.why, got)
		}
	}
	if got := now.since(heard{}, Result{}); !got.at.Equal(now.at) {
		t.Errorf("nothing was heard before: %+v", got)
	}
}
