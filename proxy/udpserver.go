// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// The limits of a [UDPServer] whose fields are zero.
const (
	DefaultMaxFlows       = 4096
	DefaultUDPIdleTimeout = 2 * time.Minute
)

// ErrEvicted means that a flow was ended to make room for a new one.
var ErrEvicted = errors.New("evicted by a new flow")

// UDPServer carries diverted datagrams to their original destinations, and the answers back from the
// address that the client asked. Datagrams of one client to one destination are a flow, which has an
// onward socket of its own: to the server a flow is one client. A client that changes its port, as
// QUIC allows, is another flow. The zero value is ready to use. A UDPServer is never changed by its
// methods, and may serve several listeners at once.
//
// Each flow has a descriptor, and each destination that is asked has one for the answers. Addresses of
// the host itself are answered from by a raw socket, which needs CAP_NET_RAW: the application holds the
// port. The rules must let the
// proxy's own datagrams pass, as with [Server].
//
// Payload is all that is carried: neither ECN and DSCP nor ICMP errors pass.
type UDPServer struct {
	// Dial makes the onward socket, connected to where the flow's datagrams are to go; nil is
	// [Dialer.DialUDP] of the zero Dialer. It may be called by several goroutines at once, and
	// must return soon after ctx is done. Some of the client's datagrams wait for it: up to 32,
	// and 16 MiB of all flows together.
	Dial func(ctx context.Context, c ConnInfo) (*net.UDPConn, error)

	// MaxFlows is how many flows each listener has open at most. A further one ends that one with
	// [ErrEvicted] which has carried nothing for the longest time. Zero is DefaultMaxFlows.
	MaxFlows int

	// DialTimeout is how long Dial may take. Zero is DefaultDialTimeout.
	DialTimeout time.Duration

	// IdleTimeout is how long a flow may carry nothing in either direction before it is ended with
	// [ErrIdle]. Zero is DefaultUDPIdleTimeout.
	IdleTimeout time.Duration

	// OnOpen, if set, is told of each flow before Dial is called. Like OnClose it may be called by
	// several goroutines at once, and holds up the flow until it returns.
	OnOpen func(c ConnInfo)

	// OnClose, if set, is told of each flow that has ended, once its socket is closed. err says why:
	// [ErrIdle], [ErrEvicted], the end of Serve's ctx, or what failed.
	OnClose func(c ConnInfo, carried Bytes, err error)
}

// Serve carries datagrams of ln until ctx is done, and then returns nil; or until ln fails, which is
// the error. Either way it first closes ln, ends every flow, and waits for all of them.
func (s *UDPServer) Serve(ctx context.Context, ln *UDPListener) error {
	ctx, cancel := context.WithCancel(ctx)
	w := &udpWork{UDPServer: s, ln: ln, started: time.Now(), flows: map[flowKey]*flow{}}
	defer w.running.Wait()
	defer cancel()
	defer ln.conn.Close()
	defer context.AfterFunc(ctx, func() { _ = ln.conn.SetReadDeadline(time.Unix(1, 0)) })()
	if s.MaxFlows < 0 || min(s.DialTimeout, s.IdleTimeout) < 0 {
		return fmt.Errorf("proxy: serve: MaxFlows %d, DialTimeout %s, IdleTimeout %s: none may be negative",
			s.MaxFlows, s.DialTimeout, s.IdleTimeout)
	}
	w.maxFlows, w.idle = cmp.Or(s.MaxFlows, DefaultMaxFlows), cmp.Or(s.IdleTimeout, DefaultUDPIdleTimeout)
	w.running.Go(func() { w.expire(ctx) })
	for {
		b, n, err := ln.batches.receive(ln.raw)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && exhausted(err):
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		case err != nil:
			return fmt.Errorf("proxy: receive: %w", err)
		}
		w.distribute(ctx, b, n)
		ln.batches.put(b)
	}
}

// udpWork is a UDPServer at work on one listener.
type udpWork struct {
	*UDPServer
	ln       *UDPListener
	maxFlows int
	idle     time.Duration
	started  time.Time // which the flows' times count from
	running  sync.WaitGroup

	mu     sync.Mutex
	flows  map[flowKey]*flow
	oldest flowHeap
}

// distribute sends each run of datagrams that belong to one flow on its way.
func (w *udpWork) distribute(ctx context.Context, b *batch, n int) {
	keyOf := func(i int) flowKey { return flowKey{b.from(i), b.originalDst(i)} }
	for i := 0; i < n; {
		key, end := keyOf(i), i+1
		for end < n && keyOf(end) == key {
			end++
		}
		if key.dst.IsValid() {
			f, opened := w.flow(ctx, key)
			f.forward(b, i, end)
			if opened { // now, so that its end finds what opened it, and counts it
				w.running.Go(f.run)
			}
		} else {
			w.ln.counts.unknown.Add(uint64(end - i))
		}
		i = end
	}
}

// flow is the one of that key, which is opened where there is none: the caller then runs it.
func (w *udpWork) flow(ctx context.Context, key flowKey) (_ *flow, opened bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.flows[key]; f != nil {
		return f, false
	}
	if len(w.flows) >= w.maxFlows {
		if f := w.oldest.top(); f != nil {
			w.ln.counts.evicted.Add(1)
			w.forget(f)
			f.end(ErrEvicted)
		}
	}
	f := &flow{work: w, ConnInfo: ConnInfo{Client: key.client, Listener: w.ln.Addr(), OriginalDst: key.dst}}
	f.context, f.end = context.WithCancelCause(ctx)
	f.use()
	w.flows[key] = f
	w.oldest.add(f)
	w.ln.counts.opened.Add(1)
	w.ln.counts.flows.Add(1)
	return f, true
}

// forget takes a flow out of the table, whose lock is held.
func (w *udpWork) forget(f *flow) {
	key := flowKey{f.Client, f.OriginalDst}
	if w.flows[key] != f {
		return // already
	}
	delete(w.flows, key)
	w.oldest.remove(f)
	w.ln.counts.flows.Add(-1)
}

// expire ends flows that have been idle for too long.
func (w *udpWork) expire(ctx context.Context) {
	for {
		select {
		case <-time.After(w.expireDue()):
		case <-ctx.Done():
			return
		}
	}
}

// expireDue ends what is due, and returns when to look again: no flow is due earlier.
func (w *udpWork) expireDue() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		f := w.oldest.top()
		if f == nil {
			return w.idle
		}
		if left := w.idle - (time.Since(w.started) - time.Duration(f.lastUsed.Load())); left > 0 {
			return left
		}
		w.ln.counts.idle.Add(1)
		w.forget(f)
		f.end(fmt.Errorf("%w: no datagram for %s", ErrIdle, w.idle))
	}
}
