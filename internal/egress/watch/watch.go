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
	user   string // whose copy is read

	last     Report
	verified time.Time
	drift    []string
}

// Start has the namespace hold the table that the configuration asks for, and begins to
// read copies. A table that was there stays when the watch ends. The error may be
// [ErrGroupTaken] or one of [capture.Capture.Apply].
func Start(ctx context.Context, ns *netns.Namespace, config modes.Config, options capture.Options) (*Watch, error) {
	c, err := capture.New(ns, config, options)
	if err != nil {
		return nil, err
	}
	w := &Watch{capture: c, book: newBook(), counts: newCounts(), done: make(chan error, 1)}
	w.reader = names.NewReader(w.claim, w.book.answer)
	if w.copies, err = openCopies(ns.FD(), modes.NamesGroup); err != nil {
		c.Close()
		return nil, err
	}
	if w.shared, err = openShared(ctx, ns); err != nil {
		c.Close()
		return nil, errors.Join(err, w.copies.close())
	}
	report, err := c.Apply(ctx)
	if err == nil {
		w.made = report.Outcome == nft.Created
		err = seed(ctx, ns, c.Table())
	}
	if err != nil {
		return nil, errors.Join(err, w.remove(ctx), w.copies.close(), w.shared.close())
	}
	reading, cancel := context.WithCancel(ctx)
	w.cancel = cancel
	go func() { w.done <- w.copies.read(reading, w.packet) }()
	return w, nil
}

func (w *Watch) claim(c names.Claim) {
	w.book.claim(c)
	w.shared.claim(c, w.user)
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
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reader.Tick(now)
	if err := w.shared.take(ctx); err != nil {
		return Report{}, err
	}
	w.counts.take(live.State.Table)
	r := Report{Time: now, Rows: rows(w.counts, w.book, w.shared), Lost: w.copies.Lost.Load(), Incomplete: w.reader.Counts.Incomplete, Unasked: w.reader.Counts.Unasked,
		Overflow: w.counts.overflow, Hellos: w.counts.hellos, Unheard: w.shared.Lost, Drift: w.drift}
	if !w.last.Time.IsZero() {
		rates(r.Rows, w.last.Rows, now.Sub(w.last.Time))
	}
	w.last = r
	return r, nil
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
	err := <-w.done
	return errors.Join(err, w.copies.close(), w.shared.close(), w.remove(ctx))
}

func (w *Watch) remove(ctx context.Context) error {
	defer w.capture.Close()
	if !w.made {
		return nil
	}
	_, err := w.capture.Remove(ctx)
	return err
}
