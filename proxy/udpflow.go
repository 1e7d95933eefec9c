// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flowKey is what tells flows apart.
type flowKey struct{ client, dst netip.AddrPort }

// The bounds of what waits for dials: datagrams of a flow, and bytes of all flows of a listener.
const (
	maxWaiting      = batchSize
	maxWaitingBytes = 16 << 20
)

// flow is the datagrams of one client to one destination.
type flow struct {
	ConnInfo
	work     *udpWork
	context  context.Context
	end      context.CancelCauseFunc
	lastUsed atomic.Int64 // when it last carried something, since work.started
	recorded int64        // lastUsed as the heap knows it
	index    int          // in the heap

	fromClient, fromUpstream atomic.Int64 // bytes

	mu       sync.Mutex
	upstream *datagramSender // nil until it is dialled
	waiting  [][]byte        // until then
}

// run dials, carries the answers until the flow is ended, and tells of it.
func (f *flow) run() {
	err := f.carry()
	w := f.work
	w.mu.Lock()
	w.forget(f)
	w.mu.Unlock()
	if f.context.Err() != nil {
		err = fmt.Errorf("proxy: %w", context.Cause(f.context))
	} else {
		w.ln.counts.failed.Add(1)
	}
	f.end(nil)
	f.mu.Lock()
	w.ln.counts.dropped.Add(uint64(len(f.waiting)))
	f.forgetWaiting()
	f.mu.Unlock()
	if w.OnClose != nil {
		w.OnClose(f.ConnInfo, Bytes{FromClient: f.fromClient.Load(), FromUpstream: f.fromUpstream.Load()}, err)
	}
}

func (f *flow) carry() error {
	if f.work.OnOpen != nil {
		f.work.OnOpen(f.ConnInfo)
	}
	upstream, err := f.dial()
	if err != nil {
		return err
	}
	defer upstream.Close()
	raw, err := upstream.SyscallConn()
	if err != nil {
		return err
	}
	answerer, err := f.work.ln.answers.acquire(f.context, f.OriginalDst)
	if err != nil {
		return err
	}
	defer answerer.release()
	defer context.AfterFunc(f.context, func() { _ = upstream.SetDeadline(time.Unix(1, 0)) })()
	f.open(datagramSender{conn: raw})
	client, batches := answerer.to(f.Client), &f.work.ln.batches
	for {
		b, n, err := batches.receive(raw)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // the server is not there; it may come, and the client may give up
		}
		if err != nil {
			return fmt.Errorf("proxy: receive: %w", err)
		}
		f.use()
		sent, size := b.send(client, 0, n)
		f.count(&f.fromUpstream, n, sent, size)
		batches.put(b)
	}
}

func (f *flow) dial() (*net.UDPConn, error) {
	ctx, cancel := context.WithTimeout(f.context, cmp.Or(f.work.DialTimeout, DefaultDialTimeout))
	defer cancel()
	if f.work.Dial != nil {
		return f.work.Dial(ctx, f.ConnInfo)
	}
	return Dialer{}.DialUDP(ctx, f.ConnInfo)
}

// open sends what has waited, before anything that comes later.
func (f *flow) open(upstream datagramSender) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.upstream = &upstream
	b := f.work.ln.batches.get()
	for i, text := range f.waiting {
		b.put(i, text)
	}
	f.use()
	sent, size := b.send(upstream, 0, len(f.waiting))
	f.count(&f.fromClient, len(f.waiting), sent, size)
	f.work.ln.batches.put(b)
	f.forgetWaiting()
}

// forward sends datagrams of the client upstream. It does not wait for room: other flows would, too.
// The lock keeps the end of the flow, which tells what it carried, until they are counted.
func (f *flow) forward(b *batch, i, end int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.upstream == nil {
		f.wait(b, i, end)
		return
	}
	f.use()
	sent, size := b.send(*f.upstream, i, end)
	f.count(&f.fromClient, end-i, sent, size)
}

// wait keeps some datagrams until there is where to send them.
func (f *flow) wait(b *batch, i, end int) {
	for ; i < end && len(f.waiting) < maxWaiting && f.context.Err() == nil; i++ {
		text := b.payload(i)
		if size := int64(len(text)); f.work.ln.waiting.Add(size) > maxWaitingBytes {
			f.work.ln.waiting.Add(-size)
			break
		}
		f.waiting = append(f.waiting, append([]byte(nil), text...))
	}
	f.work.ln.counts.dropped.Add(uint64(end - i))
}

// forgetWaiting makes room for what waits of other flows.
func (f *flow) forgetWaiting() {
	for _, text := range f.waiting {
		f.work.ln.waiting.Add(-int64(len(text)))
	}
	f.waiting = nil
}

// use makes the flow the last used, before it sends: who hears what it sends may open another flow at once.
func (f *flow) use() { f.lastUsed.Store(int64(time.Since(f.work.started))) }

// count adds what was sent of what was to be.
func (f *flow) count(bytes *atomic.Int64, want, sent int, size int64) {
	bytes.Add(size)
	f.work.ln.counts.dropped.Add(uint64(want - sent))
}
