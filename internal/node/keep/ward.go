// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"slices"
	"strings"
	"time"
)

// ward is a namespace that is kept.
type ward struct {
	key   Key
	timer *time.Timer
	due   time.Time

	waiting bool // for its turn to be looked at: what comes meanwhile is taken in then
	running bool
	wanted  bool  // it is to be looked at, whatever was heard
	foreign bool  // what others have there is to be looked at
	queued  bool  // that look waits for its turn
	last    heard // since the last of those
	causes  []Cause
	heard   time.Time     // when the first of them was
	more    chan struct{} // closed with the next of them; nil: nothing waits

	looked  bool // it was looked at
	covered uint32
	senders []uint32      // of the agent itself, at the last looks
	lately  time.Time     // when it was looked at last
	delay   time.Duration // of the next look after a change

	drifted   bool      // it is not as it should be
	drift     heard     // what was heard before that was found
	healed    time.Time // when it was healed last
	heals     int       // in a row
	failures  int       // in a row
	next      time.Time // when it may be healed again
	gaveUp    bool
	conflicts []string // that were found last
	told      string   // what was told last of what is wrong, "" of nothing
}

// heard is what was heard before a look.
type heard struct {
	at      time.Time
	writers []string
	objects []string
}

func (h *heard) add(c Cause) {
	if c.Writer != "" {
		h.writers = union(h.writers, []string{c.Writer})
	}
	h.objects = union(h.objects, c.Objects)
}

// and is what was heard before and now.
func (h heard) and(now heard) heard {
	if h.at.IsZero() {
		return now
	}
	return heard{h.at, union(h.writers, now.writers), union(h.objects, now.objects)}
}

// since is what explains what a look found: a difference what was heard now, for it was not there before; what others
// have there also what was heard then.
func (h heard) since(before heard, r Result) heard {
	all := before.and(h)
	switch {
	case len(r.Differences) == 0:
		return all
	case len(r.Conflicts) == 0:
		return h
	}
	return heard{h.at, all.writers, all.objects}
}

const (
	maxCauses  = 64
	maxSenders = 8
)

// later reports whether generation a came after b: they wrap around.
func later(a, b uint32) bool { return int32(a-b) > 0 }

// covers reports whether the namespace was seen as it should be at that generation or a later one.
func (w *ward) covers(generation uint32) bool { return w.covered != 0 && !later(generation, w.covered) }

func (w *ward) hear(l Limits, c Cause) {
	if len(w.causes) == 0 {
		w.heard = time.Now()
	}
	if w.more != nil {
		close(w.more)
		w.more = nil
	}
	if c.Generation == 0 && (w.running || time.Since(w.healed) < l.Debounce) {
		c.Foreign = false // it may be the heal itself, whose routing has no generation
	}
	if time.Since(w.lately) < l.Busy {
		c = c.without(w.senders)
	}
	w.foreign = w.foreign || c.Foreign || len(w.conflicts) > 0
	if len(w.causes) < maxCauses {
		w.causes = append(w.causes, c)
		return
	}
	w.causes[maxCauses-1] = c // the last one tells up to where
}

// without is the change without its writer where the agent itself is that, by one of those sockets.
func (c Cause) without(senders []uint32) Cause {
	if slices.Contains(senders, c.Sender) {
		c.Sender, c.Writer = 0, ""
	}
	return c
}

// explains reports whether a change that was heard during a look may be what the look found: routing, which has no
// generation, or a commit up to the one that was seen.
func (c Cause) explains(r Result) bool {
	return c.Generation == 0 || r.Seen != 0 && !later(c.Generation, r.Seen)
}

// lacksWriter reports whether a look found what nothing is heard of yet, or what a commit did of which that is so.
func (w *ward) lacksWriter(h heard, r Result) bool {
	if !w.looked || w.drifted || len(r.Differences) == 0 || len(h.writers) > 0 {
		return false
	}
	committed := w.covered != 0 && later(r.Seen, w.covered)
	if !committed && !h.at.IsZero() {
		return false
	}
	return !slices.ContainsFunc(w.causes, func(c Cause) bool {
		return c.explains(r) && !slices.Contains(r.Senders, c.Sender) && (!committed || c.Generation != 0 && c.Writer != "")
	})
}

// debounce is how long to wait for further changes: longer the longer they go on.
func (w *ward) debounce(l Limits) time.Duration {
	if time.Since(w.lately) > 10*l.Debounce || w.delay == 0 {
		w.delay = l.Debounce
	}
	return w.delay
}

// take takes what was heard, and what is to be done about it.
func (w *ward) take(now time.Time) (heard, Order) {
	h := heard{at: w.heard}
	if len(w.causes) == 0 {
		h.at = time.Time{}
	}
	for _, c := range w.causes {
		h.add(c)
	}
	o := Order{Heal: !w.gaveUp && !w.next.After(now), Writers: h.writers}
	w.causes, w.wanted = nil, false
	w.last.writers, w.last.objects = union(w.last.writers, h.writers), union(w.last.objects, h.objects)
	if w.last.at.IsZero() {
		w.last.at = h.at
	}
	return h, o
}

// settle takes a result in.
func (w *ward) settle(l Limits, h heard, o Order, r Result, start time.Time, took time.Duration) Finding {
	now := time.Now()
	if !o.Foreign {
		r.Conflicts = w.conflicts // they were not looked for
	}
	w.conflicts = r.Conflicts
	f := Finding{Key: w.key, Result: r, First: !w.looked || r.Met, Healing: took}
	w.looked = w.looked || r.Err == nil
	if !w.lately.IsZero() && now.Sub(w.lately) < 10*l.Debounce {
		w.delay = min(max(2*w.delay, l.Debounce), l.Busy)
	}
	w.lately = now
	w.senders = append(w.senders, r.Senders...)
	w.senders = w.senders[max(len(w.senders)-maxSenders, 0):]
	for i, c := range w.causes { // heard while it was looked at
		own := slices.Contains(r.Senders, c.Sender)
		if c = c.without(r.Senders); !own && c.explains(r) {
			h.add(c)
			if h.at.IsZero() {
				h.at = w.heard
			}
		}
		w.causes[i] = c
	}
	if r.Generation != 0 {
		w.covered = r.Generation
		w.causes = slices.DeleteFunc(w.causes, func(c Cause) bool { return c.Generation != 0 && w.covers(c.Generation) })
	}
	bad := len(r.Differences) > 0 || r.Err != nil
	if w.drifted { // what was heard first is what did it
		h = w.drift.and(h)
	}
	f.Heard, f.Writers, f.Objects = h.at, h.writers, h.objects
	if bad && !w.drifted && !h.at.IsZero() {
		f.Noticed = max(start.Sub(h.at), 0)
	}
	switch {
	case r.Healed:
		switch {
		case f.First || r.Anew:
			w.heals = 0 // nobody undid anything
		case now.Sub(w.healed) < l.Quiet+w.pause(l):
			w.heals++
		default:
			w.heals = 1
		}
		w.healed, w.next = now, now.Add(w.pause(l))
		w.gaveUp = w.heals >= l.Most
		w.drifted, w.failures = false, 0
	case r.Err != nil:
		w.failures++
		w.next = now.Add(min(l.Pause<<min(w.failures, 20), l.Retry))
		w.drifted, w.drift = true, h
	case bad:
		w.drifted, w.drift = true, h
	default:
		w.drifted, w.failures = false, 0
	}
	f.Heals, f.GaveUp = w.heals, w.gaveUp
	return f
}

// isNews reports whether a finding says something else than the last one did.
func (w *ward) isNews(f Finding) bool {
	wrong := strings.Join(slices.Concat(f.Differences, f.Conflicts), "\n")
	if f.Err != nil {
		wrong += "\n" + f.Err.Error()
	}
	if f.Healed {
		wrong = strings.Join(f.Conflicts, "\n")
	}
	news := wrong != w.told || f.Healed || f.First
	w.told = wrong
	return news
}

// pause is how long to wait after so many heals in a row.
func (w *ward) pause(l Limits) time.Duration {
	if w.heals <= l.Free {
		return 0
	}
	return l.Pause << min(w.heals-l.Free, 20)
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (w *ward) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}
