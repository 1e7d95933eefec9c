// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"sync"
	"time"
)

// Keeper keeps namespaces as they should be. Its methods may be called from several goroutines.
type Keeper struct {
	ctx    context.Context
	work   Work
	tell   func(Finding)
	limits Limits
	slots  chan struct{}
	slow   chan struct{} // of the looks that take long

	mu    sync.Mutex
	kept  map[Key]*ward
	ended bool // nothing begins any more
	busy  sync.WaitGroup
}

// New is a keeper that works until the context ends. It tells of the first look at each namespace, of each
// heal, and of each look that found something else than the one before.
func New(ctx context.Context, work Work, tell func(Finding), limits Limits) *Keeper {
	return &Keeper{ctx: ctx, work: work, tell: tell, limits: limits, slots: make(chan struct{}, limits.AtOnce), slow: make(chan struct{}, 1), kept: map[Key]*ward{}}
}

// Add looks at a namespace, and at each change of it from now on.
func (k *Keeper) Add(key Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept[key] == nil {
		k.kept[key] = &ward{key: key, foreign: true, wanted: true}
		k.schedule(k.kept[key], 0)
	}
}

// Forget ends that.
func (k *Keeper) Forget(key Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.kept[key]; w != nil {
		w.stop()
		delete(k.kept, key)
	}
}

// Changed tells of a change.
func (k *Keeper) Changed(key Key, c Cause) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.kept[key]
	if w == nil || c.Generation != 0 && w.covers(c.Generation) {
		return
	}
	w.hear(k.limits, c)
	if !w.running {
		k.schedule(w, w.debounce(k.limits))
	}
}

// Look looks at a namespace now: something else than a change calls for it.
func (k *Keeper) Look(key Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.look(k.kept[key])
}

// Sweep looks at every namespace, and heals once where a fight had it give up.
func (k *Keeper) Sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.kept {
		if w.gaveUp {
			w.gaveUp, w.next = false, time.Time{}
			w.heals, w.healed = k.limits.Most-1, time.Now() // one more heal is one more of the fight
		}
		k.look(w)
	}
}

func (k *Keeper) look(w *ward) {
	if w == nil {
		return
	}
	w.wanted, w.foreign = true, true
	if !w.running {
		k.schedule(w, 0)
	}
}

// Wait waits for the work that is under way, once the context has ended. Nothing begins from then on.
func (k *Keeper) Wait() {
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.busy.Wait()
}

// begin counts work that begins; false means that none does any more.
func (k *Keeper) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.busy.Add(1)
	return true
}

// schedule has a namespace looked at after a while, or sooner where it already is to be.
func (k *Keeper) schedule(w *ward, after time.Duration) {
	if w.waiting {
		return
	}
	due := time.Now().Add(after)
	if w.drifted && w.next.After(due) {
		due = w.next
	}
	if w.timer != nil && !w.due.After(due) {
		return
	}
	w.stop()
	w.due = due
	w.timer = time.AfterFunc(time.Until(due), func() { k.run(w) })
}

// run looks at a namespace, and has what others have there looked at in its turn.
func (k *Keeper) run(w *ward) {
	k.mu.Lock()
	w.timer = nil
	waiting := w.waiting
	w.waiting = true
	k.mu.Unlock()
	if waiting {
		return
	}
	k.turn(w, k.slots, func() (now, before heard, o Order) {
		now, o = w.take(time.Now())
		return now, heard{}, o
	})
}

// runForeign looks at a namespace and at what others have there, which takes long: one at a time, so that no
// other look waits for it.
func (k *Keeper) runForeign(w *ward) {
	k.turn(w, k.slow, func() (now, before heard, o Order) {
		before = w.last
		now, o = w.take(time.Now())
		w.foreign, w.last, o.Foreign = false, heard{}, true
		return now, before, o
	})
}

// turn does one look. What take has from before, of looks that did not see what others have there, may explain that.
func (k *Keeper) turn(w *ward, slots chan struct{}, take func() (now, before heard, o Order)) {
	if !k.begin() {
		return
	}
	defer k.busy.Done()
	slots <- struct{}{}
	defer func() { <-slots }()
	k.mu.Lock()
	if slots == k.slow {
		w.queued = false
	} else {
		w.waiting = false
	}
	if k.ctx.Err() != nil || k.kept[w.key] != w || w.running {
		k.mu.Unlock()
		return // the look that is under way has what is left done
	}
	w.running = true
	h, before, order := take()
	k.mu.Unlock()

	start := time.Now()
	result := k.work(k.ctx, w.key, order)
	took := time.Since(start)
	k.awaitWriter(w, h, result)

	k.mu.Lock()
	w.running = false
	if result.Gone || k.ctx.Err() != nil {
		if k.kept[w.key] == w {
			delete(k.kept, w.key)
		}
		k.mu.Unlock()
		return
	}
	f := w.settle(k.limits, h.since(before, result), order, result, start, took)
	k.next(w)
	news := w.isNews(f)
	k.mu.Unlock()
	if news {
		k.tell(f)
	}
}

// awaitWriter gives the notification of what was found a moment to arrive, where the look came before it: the kernel
// sends it once the ruleset can be read already (nf_tables_commit of net/netfilter/nf_tables_api.c).
func (k *Keeper) awaitWriter(w *ward, h heard, r Result) {
	limit := time.NewTimer(k.limits.Debounce)
	defer limit.Stop()
	for {
		k.mu.Lock()
		lacks := w.lacksWriter(h, r)
		more := make(chan struct{})
		w.more = more
		k.mu.Unlock()
		if !lacks {
			return
		}
		select {
		case <-more:
		case <-limit.C:
			return
		case <-k.ctx.Done():
			return
		}
	}
}

// next has done what is left to do in a namespace.
func (k *Keeper) next(w *ward) {
	if k.kept[w.key] != w {
		return
	}
	switch {
	case w.wanted:
		k.schedule(w, 0)
	case len(w.causes) > 0:
		k.schedule(w, w.debounce(k.limits))
	case w.drifted && !w.gaveUp:
		k.schedule(w, time.Until(w.next))
	}
	if w.foreign && !w.queued {
		w.queued = true
		go k.runForeign(w)
	}
}
