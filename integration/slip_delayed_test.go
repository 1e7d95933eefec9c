// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// TestNoDelayedPacketSlips: a packet that stays in a hook for longer than a replacement takes meets rules all the same,
// where the former come after what delays it, and those in their place before.
func TestNoDelayedPacketSlips(t *testing.T) {
	for _, pair := range slips[len(slips)-3:] {
		t.Run(pair.why, func(t *testing.T) { connectDelayed(t, pair.a, pair.b) })
	}
}

// connectDelayed connects while two states take turns.
func connectDelayed(t *testing.T, states ...rules.State) {
	connects := howOften(600, 20_000)
	p := newPath(t)
	s := p.session()
	if _, err := s.Apply(context.Background(), states[0]); err != nil {
		t.Fatal(err)
	}
	p.nft(delaying())
	var done, lost atomic.Int64
	stop, finished := make(chan struct{}), make(chan error)
	const connecting = 3
	for i := range connecting {
		go func() {
			finished <- p.try(func() error { return p.connectOn(i, stop, &done, &lost) })
		}()
	}
	applies, start := 0, time.Now()
	for ; int(done.Load()) < connects || applies < 2; applies++ {
		if _, err := s.Apply(context.Background(), states[(applies+1)%2]); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-finished:
			t.Fatal(err)
		default:
		}
	}
	took := time.Since(start)
	close(stop)
	for range connecting {
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
	}
	slipped := p.arrived()
	t.Logf("%d connections during %d applies in %s: %d slipped, %d got no answer", done.Load(), applies, took.Round(time.Second), slipped, lost.Load())
	if slipped > 0 {
		t.Errorf("%d of %d connections reached their destination directly", slipped, done.Load())
	}
}

// delaying is a chain in output, behind mangle and before nat, in which a packet stays for milliseconds.
func delaying() string {
	const rules = 400 // and so often
	return "table inet slow {\nchain long {\n" + strings.Repeat("ip daddr 192.0.2.1 accept\n", rules) +
		"}\nchain out {\ntype filter hook output priority -120;\ntcp flags & (syn | ack) != syn accept\n" + strings.Repeat("jump long\n", rules) + "}\n}\n"
}
