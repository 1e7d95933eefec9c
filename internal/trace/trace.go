// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package trace follows real packets across the rules of a network namespace: each
// rule that they match, with its reason and its verdict, in every table.
//
// The package neither reads flags nor prints: packets are handed over as they
// arrive.
package trace

import (
	"context"
	"errors"
	"time"

	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Options say which packets to trace, and for how long.
type Options struct {
	Match []rules.Node // what packets must be, see [Match]; none: any
	UID   *rules.UID   // the user that opened their socket here; nil: any, and packets that arrive too
	SYN   bool         // of TCP only packets that open connections
	Rate  uint32       // packets a second that are traced, at most
	Count int          // end after so many connections, of protocols without ports packets; 0: no such end
	For   time.Duration
}

// Counts say what a trace left out.
type Counts struct {
	Matched, Traced uint64 // packets; traced are fewer where matching ones exceed the rate
	Lost            uint32 // notifications that the kernel could not deliver
}

// Run traces packets in the target, and shows each once it has arrived. The end of the
// context is an ordinary end. The trace works with a table of its own, which goes with
// it.
func Run(ctx context.Context, target *netns.Namespace, o Options, show func(*Packet) error) (counts Counts, err error) {
	conn, err := target.Nft()
	if err != nil {
		return counts, netns.WithAdvice(err)
	}
	defer conn.Close()
	c := &collector{ctx: ctx, conn: conn, target: target, show: show, most: o.Count, connections: map[string]bool{}}
	if err := c.refresh(); err != nil {
		return counts, err
	}
	t, err := nft.StartTrace(ctx, target.FD(), o.kernel())
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := c.follow(t, time.Now().Add(o.For)); err != nil {
		return counts, err
	}
	if counts.Matched, counts.Traced, err = t.Counts(context.WithoutCancel(ctx)); err != nil {
		return counts, err
	}
	counts.Lost, err = t.Lost()
	return counts, err
}

// kernel is what the kernel is asked to trace.
func (o Options) kernel() nft.TraceOptions {
	k := nft.TraceOptions{Hooks: []rules.Hook{rules.Prerouting, rules.Output}, Match: o.Match, Rate: o.Rate}
	if o.SYN {
		k.Match = append(k.Match, rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK))
	}
	if o.UID != nil {
		k.Match = append(k.Match, rules.SkUID.Is(*o.UID))
		k.Hooks = []rules.Hook{rules.Output} // arriving packets have no user
	}
	return k
}
