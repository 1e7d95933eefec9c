// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// countTime is how often it is read what passed the proxies of pods by.
const countTime = 30 * time.Second

// count has counted what passes by the proxy of a pod that is captured by a state, and tells what was. That it cannot
// be keeps no pod from being captured. Where it committed, next after the generation at which the look found all as it
// should be, the look covers that commit too; without a commit of its own a later generation is somebody else's.
func (w *look) count(ctx context.Context, captured rules.State, result *keep.Result) {
	generation, err := w.tryCount(ctx, captured)
	if result.Generation != 0 && generation == result.Generation+1 {
		result.Generation = generation
	}
	switch {
	case errors.Is(err, escapes.ErrUncounted):
		w.Log.Debug("not counted", "pod", w.pod.snapshot().String(), "why", err)
		w.uncount(ctx)
	case err != nil && ctx.Err() == nil:
		w.Log.Warn("not counted", "pod", w.pod.snapshot().String(), "error", err)
	}
}

// tryCount returns the generation of its commit, 0 where it made none.
func (w *look) tryCount(ctx context.Context, captured rules.State) (uint32, error) {
	want, err := escapes.Rules(captured)
	if err != nil {
		return 0, err
	}
	c, err := capture.OfState(w.ns, want, capture.Options{LoopbackLater: true})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	report, err := c.Apply(ctx)
	w.senders = append(w.senders, report.Ports...)
	if err != nil {
		return 0, err
	}
	w.readCount(ctx, w.pod, c, report.Outcome == nft.Created)
	if report.Outcome == nft.Unchanged {
		return 0, nil
	}
	w.wrote = true
	return report.Generation, nil
}

// uncount takes the counters of a pod away that is not captured any more.
func (w *look) uncount(ctx context.Context) {
	if !w.pod.stopCounting() && w.pod.looked() {
		return
	}
	report, err := removeTable(ctx, w.ns, reserved.Escapes)
	w.senders = append(w.senders, report.Ports...)
	if err != nil && ctx.Err() == nil {
		w.Log.Warn("counters are left", "pod", w.pod.snapshot().String(), "error", err)
	}
}

// readCount tells what was counted since the last reading. The first one of a table that another agent made is where
// counting begins.
func (a *Agent) readCount(ctx context.Context, p *pod, c *capture.Capture, created bool) {
	live, _, err := c.Live(ctx)
	if err != nil || live.State.Table == nil {
		return
	}
	since := p.counted(escapes.CountOf(live.State.Table), created)
	if since == (escapes.Count{}) {
		return
	}
	known := p.snapshot()
	a.Log.Warn("connections were opened past the proxy", "pod", known.String(), "netns", known.Netns, "out", since.Out, "in", since.In)
	for _, t := range a.Tell {
		t.Escaped(known, p.state(), since)
	}
}

// keepCounting reads the counters of every pod from time to time.
func (a *Agent) keepCounting(ctx context.Context) {
	tick := time.NewTicker(countTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.readCounts(ctx)
	}
}

// readCounts reads the counters of every pod.
func (a *Agent) readCounts(ctx context.Context) {
	for key, p := range a.known() {
		if ctx.Err() == nil && p.counts() {
			a.readPod(ctx, uint64(key), p)
		}
	}
}

// readPod reads the counters of one pod.
func (a *Agent) readPod(ctx context.Context, inode uint64, p *pod) {
	ns, err := p.open(inode)
	if err != nil {
		if !errors.Is(err, netns.ErrNotExist) {
			a.Log.Warn("counters are not read", "pod", p.snapshot().String(), "error", err)
		}
		return
	}
	defer ns.Close()
	c, err := capture.OfState(ns, rules.State{Table: &rules.Table{Name: reserved.Escapes}}, capture.Options{})
	if err != nil {
		return
	}
	defer c.Close()
	a.readCount(ctx, p, c, false)
}

// counted takes in what a table has counted, and returns what is new.
func (p *pod) counted(now escapes.Count, created bool) escapes.Count {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := now
	switch {
	case created:
		before = escapes.Count{}
	case p.count != nil:
		before = *p.count
	}
	p.count = &now
	since := now.Since(before)
	p.status.Escaped += since.Out + since.In
	return since
}

// stopCounting reports whether something was counted until now.
func (p *pod) stopCounting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.count != nil
	p.count = nil
	return was
}

func (p *pod) counts() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count != nil
}

func (p *pod) state() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}
