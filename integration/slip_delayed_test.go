// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"strings"
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
	c := p.connect()
	applies, start := 0, time.Now()
	for ; int(c.done.Load()) < connects || applies < 2; applies++ {
		if _, err := s.Apply(context.Background(), states[(applies+1)%2]); err != nil {
			t.Fatal(err)
		}
		c.check()
	}
	took := time.Since(start)
	c.end()
	slipped := p.arrived()
	t.Logf("%d connections during %d applies in %s: %d slipped, %d got no answer", c.done.Load(), applies, took.Round(time.Second), slipped, c.lost.Load())
	if slipped > 0 {
		t.Errorf("%d of %d connections reached their destination directly", slipped, c.done.Load())
	}
}

// delaying is a chain in output, behind mangle and before nat, in which a packet stays for milliseconds.
func delaying() string {
	const rules = 400 // and so often
	return "table inet slow {\nchain long {\n" + strings.Repeat("ip daddr 192.0.2.1 accept\n", rules) +
		"}\nchain out {\ntype filter hook output priority -120;\ntcp flags & (syn | ack) != syn accept\n" + strings.Repeat("jump long\n", rules) + "}\n}\n"
}
