// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/egress/names"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
)

// Watch is a namespace of which egress is counted.
type Watch struct {
	capture *capture.Capture
	made    bool // the table: it goes with the watch
	copies  *copies
	cancel  context.CancelFunc
	done    chan error

	mu     sync.Mutex // of what the reader of copies writes
	reader *names.Reader
	book   *book
	counts *counts
	shared *shared
	own    *sockets // of the namespace; nil with by: pod
	pods   *pods    // of the node; nil else
	user   string   // whose copy is read

	last     Report
	verified time.Time
	drift    []string
}

// Start has the namespace hold the table that the configuration asks for, and begins to
// read copies. A table that was there stays when the watch ends. With by: pod the namespace is
// a node's and find lists its pods, at each report; else find is not used. The error may be
// [errGroupTaken] or one of [capture.Capture.Apply].
func Start(ctx context.Context, ns *netns.Namespace, config modes.Config, options capture.Options, find func(context.Context) ([]Pod, error)) (*Watch, error) {
	c, err := capture.New(ns, config, options)
	if err != nil {
		return nil, err
	}
	w := &Watch{capture: c, book: newBook(), counts: newCounts(), shared: newShared(), done: make(chan error, 1)}
	w.reader = names.NewReader(w.claim, w.book.answer)
	if w.copies, err = openCopies(ns.FD(), modes.NamesGroup); err != nil {
		c.Close()
		return nil, err
	}
	if err = w.begin(ctx, ns, config.Watch.By == modes.EgressByPod, find); err != nil {
		return nil, errors.Join(err, w.end(ctx))
	}
	reading, cancel := context.WithCancel(ctx)
	w.cancel = cancel
	go func() { w.done <- w.copies.read(reading, w.packet) }()
	return w, nil
}

// begin applies the table, and tells it what is older than it.
func (w *Watch) begin(ctx context.Context, ns *netns.Namespace, node bool, find func(context.Context) ([]Pod, error)) (err error) {
	if !node {
		if w.own, err = openSockets(ctx, ns); err != nil {
			return err
		}
	}
	report, err := w.capture.Apply(ctx)
	if err != nil {
		return err
	}
	w.made = report.Outcome == nft.Created
	if !node {
		return seed(ctx, ns, w.capture.Table())
	}
	if w.pods, err = openPods(ns, w.capture.Table(), find); err != nil {
		return err
	}
	w.counts.owner = w.pods.name
	found, err := find(ctx)
	return w.pods.refresh(ctx, found, err)
}

func (w *Watch) claim(c names.Claim) {
	c.Name = w.book.claim(c)
	owner := w.user
	if w.pods != nil {
		owner = w.pods.name(c.Src.Addr().String())
	}
	w.shared.claim(c, owner)
}

func (w *Watch) packet(b []byte, user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.user = user
	w.reader.Packet(b, time.Now())
}

// Report reads what was counted since the start.
func (w *Watch) Report(ctx context.Context) (Report, error) {
	live, _, err := w.capture.Live(ctx)
	if err != nil {
		return Report{}, err
	}
	if live.State.Table == nil {
		return Report{}, fmt.Errorf("table inet %s is gone: nothing is counted any more", w.capture.Table())
	}
	now := time.Now()
	if err := w.verify(ctx, now); err != nil {
		return Report{}, err
	}
	var found []Pod
	var wrong error
	if w.pods != nil {
		found, wrong = w.pods.find(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reader.Tick(now)
	if err := w.shared.take(ctx, w.sockets(), now); err != nil {
		return Report{}, err
	}
	w.counts.take(live.State.Table)
	r := Report{Time: now, Rows: rows(w.counts, w.book, w.shared), Lost: w.copies.Lost(), Incomplete: w.reader.Counts.Incomplete, Unasked: w.reader.Counts.Unasked,
		Overflow: w.counts.overflow, Hellos: w.counts.hellos, Others: w.book.others, Unheard: w.shared.Lost, Drift: w.drift}
	if !w.last.Time.IsZero() {
		rates(r.Rows, w.last.Rows, now.Sub(w.last.Time))
	}
	w.last = r
	if w.pods == nil {
		return r, nil
	}
	w.last.Pods, w.last.Wrong = len(w.pods.here), w.pods.Wrong
	return w.last, w.pods.refresh(ctx, found, wrong)
}

const verifyEvery = 10 * time.Second

// verify compares the table with what was applied, now and then.
func (w *Watch) verify(ctx context.Context, now time.Time) error {
	if now.Sub(w.verified) < verifyEvery {
		return nil
	}
	w.verified = now
	verdict, err := w.capture.Verify(ctx)
	if err != nil {
		return err
	}
	w.drift = nil
	for _, d := range verdict.Differences {
		w.drift = append(w.drift, d.String())
	}
	return nil
}

// Close ends the watch, and removes the table if the watch made it.
func (w *Watch) Close(ctx context.Context) error {
	w.cancel()
	return errors.Join(<-w.done, w.end(ctx))
}

// end closes what Start opened.
func (w *Watch) end(ctx context.Context) error {
	wrong := []error{w.copies.close()}
	if w.own != nil {
		wrong = append(wrong, w.own.close())
	}
	if w.pods != nil {
		wrong = append(wrong, w.pods.close())
	}
	return errors.Join(append(wrong, w.remove(ctx))...)
}

// sockets are those whose connections are counted.
func (w *Watch) sockets() []*sockets {
	if w.pods != nil {
		return w.pods.sockets()
	}
	return []*sockets{w.own}
}

func (w *Watch) remove(ctx context.Context) error {
	defer w.capture.Close()
	if !w.made {
		return nil
	}
	_, err := w.capture.Remove(ctx)
	return err
}
