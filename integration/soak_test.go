// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/rules"
)

// soakTime is how long each part of a soak may take (WEIR_SOAK_TIME), which make soak SOAK=2h says.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	limit, err := time.ParseDuration(os.Getenv("WEIR_SOAK_TIME"))
	if err != nil {
		t.Fatalf("WEIR_SOAK_TIME: %v (make soak SOAK=2h)", err)
	}
	return limit
}

// flat watches what the process holds: after a tenth of the time or of the work, and at the end.
type flat struct {
	*testing.T
	from  time.Time // when it is looked at first,
	work  int64     // or after how much
	early *scratch.Usage
}

func watchFlat(t *testing.T, limit time.Duration, work int64) *flat {
	return &flat{T: t, from: time.Now().Add(limit / 10), work: work / 10}
}

// look looks, where it is time for the first.
func (f *flat) look(done int64) {
	if f.early == nil && (done >= f.work || time.Now().After(f.from)) {
		u := f.now()
		f.early = &u
	}
}

func (f *flat) now() scratch.Usage {
	f.Helper()
	u, err := scratch.UsageNow()
	if err != nil {
		f.Fatal(err)
	}
	return u
}

// end compares.
func (f *flat) end() {
	f.Helper()
	now := f.now()
	if f.early == nil {
		f.Fatal("it ended before it was looked at")
	}
	f.Logf("at first %s; at the end %s", f.early, now)
	if err := now.Grown(*f.early); err != nil {
		f.Error(err)
	}
}

// TestSoakConnections: of ten million connections during replaces of every kind none reaches its destination past the
// proxy. It ends early where the time is over, and says how many there were.
func TestSoakConnections(t *testing.T) {
	const want = 10_000_000
	limit := soakTime(t)
	p := newPath(t)
	s := p.session()
	apply := func(state rules.State) {
		if _, err := s.Apply(context.Background(), state); err != nil {
			t.Fatal(err)
		}
	}
	apply(slips[0].a)
	c := p.connect()
	f, start, applies := watchFlat(t, limit, want), time.Now(), 0
	for ; c.done.Load() < want && time.Since(start) < limit; applies++ {
		pair := slips[applies/100%len(slips)]
		apply([]rules.State{pair.b, pair.a}[applies%2])
		time.Sleep(500 * time.Microsecond)
		f.look(c.done.Load())
		c.check()
	}
	took := time.Since(start)
	c.end()
	slipped := p.arrived()
	t.Logf("%d of %d connections during %d applies in %s: %.0f connections and %.0f applies a second; %d slipped, %d got no answer",
		c.done.Load(), want, applies, took.Round(time.Second), float64(c.done.Load())/took.Seconds(), float64(applies)/took.Seconds(), slipped, c.lost.Load())
	if slipped > 0 || applies == 0 || c.done.Load() == 0 {
		t.Errorf("%d of %d connections reached their destination directly", slipped, c.done.Load())
	}
	f.end()
}

// TestSoakKills: five thousand applies and removes are killed, each at a moment of its own; see TestKilled.
func TestSoakKills(t *testing.T) {
	const want = 5000
	limit := soakTime(t)
	n := newNamespace(t)
	k := &killing{namespace: n, s: n.session(), clean: map[int][]string{}, addressesTell: linux(t, 5, 18)}
	spans := make([]time.Duration, len(killed))
	for i, p := range killed {
		spans[i] = k.length(p.from, p.to)
	}
	f, start, kills := watchFlat(t, limit, want), time.Now(), 0
	seen := map[string]int{}
	for ; kills < want && time.Since(start) < limit && !t.Failed(); kills++ {
		p, r := killed[kills%len(killed)], rand.Float64()
		k.round(p.from, p.to, time.Duration(1.25*r*r*float64(spans[kills%len(killed)])), seen)
		f.look(int64(kills))
	}
	took := time.Since(start)
	t.Logf("killed %d of %d times in %s, %.1f a second: %v", kills, want, took.Round(time.Second), float64(kills)/took.Seconds(), seen)
	if kills == 0 {
		t.Error("nothing was killed")
	}
	f.end()
}
