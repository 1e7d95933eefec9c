// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capturetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/capture/internal/policy"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Fake answers the verbs of a [capture.Capture] in a [Namespace]. Its reports have no
// times, and neither conflicts nor connections.
type Fake struct {
	ns      *Namespace
	config  modes.Config
	state   *rules.State
	written bool
	table   string
	options capture.Options
}

var _ capture.Engine = (*Fake)(nil)

// Plan is [capture.Capture.Plan].
func (f *Fake) Plan(ctx context.Context) (capture.Plan, error) {
	f.ns.mu.Lock()
	defer f.ns.mu.Unlock()
	p := capture.Plan{Table: f.table, Uncompared: f.ns.Err}
	if f.written {
		return p, f.failed("plan", capture.ErrEmptyState)
	}
	var err error
	p.State, p.Notes, err = f.wanted()
	if err == nil && p.Uncompared == nil {
		p.Differences = f.differences(p.State)
	}
	return p, err
}

// Verify is [capture.Capture.Verify].
func (f *Fake) Verify(ctx context.Context) (capture.Verdict, error) {
	f.ns.mu.Lock()
	defer f.ns.mu.Unlock()
	v := capture.Verdict{Table: f.table}
	if err := f.reached(ctx); err != nil {
		return v, err
	}
	if f.written {
		v.Differences = f.drift()
		return v, nil
	}
	want, notes, err := f.wanted()
	v.Notes = notes
	if err == nil {
		v.Differences = f.differences(want)
	}
	return v, err
}

// Apply is [capture.Capture.Apply].
func (f *Fake) Apply(ctx context.Context) (capture.Report, error) {
	f.ns.mu.Lock()
	defer f.ns.mu.Unlock()
	r := f.report()
	if f.written {
		return r, f.failed("apply", capture.ErrEmptyState)
	}
	var err error
	isHost := func() (bool, error) { return f.ns.Host, nil }
	if r.HostNetwork, err = policy.AllowHost(f.config.Mode, f.options.HostNetwork, isHost); err != nil {
		return r, err
	}
	if err := f.reached(ctx); err != nil {
		return r, err
	}
	want, notes, err := f.wanted()
	r.Notes = notes
	if err != nil {
		return r, err
	}
	if want.Table == nil {
		f.remove(&r)
		return r, nil
	}
	isUp := func() (bool, error) { return !f.ns.LoopbackDown || f.options.LoopbackLater, nil }
	if r.LoopbackDown, err = policy.Loopback(f.config.Mode, want, isUp); err != nil {
		return r, err
	}
	f.apply(want, &r)
	return r, nil
}

// Remove is [capture.Capture.Remove].
func (f *Fake) Remove(ctx context.Context) (capture.Report, error) {
	f.ns.mu.Lock()
	defer f.ns.mu.Unlock()
	r := f.report()
	if err := f.reached(ctx); err != nil {
		return r, err
	}
	f.remove(&r)
	return r, nil
}

// reached is why a verb cannot be done.
func (f *Fake) reached(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.ns.Err
}

func (f *Fake) failed(verb string, err error) error {
	return fmt.Errorf("%s inet %s: %w", verb, f.table, err)
}

func (f *Fake) report() capture.Report {
	r := capture.Report{Table: f.table, Version: f.options.Version}
	if r.Version == "" {
		r.Version = version.String()
	}
	return r
}

func (f *Fake) wanted() (rules.State, []modes.Note, error) {
	switch {
	case f.state != nil:
		return *f.state, nil, nil
	case f.options.Environment != nil:
		return modes.State(f.config, *f.options.Environment)
	}
	return modes.State(f.config, f.ns.Environment)
}

func (f *Fake) live() rules.State {
	if t := f.ns.tables[f.table]; t != nil {
		return t.live
	}
	return rules.State{}
}

func (f *Fake) differences(want rules.State) []rules.Difference {
	return want.Compare(f.live())
}

func (f *Fake) apply(want rules.State, r *capture.Report) {
	want = want.Normal()
	have := f.live()
	changes := want.ChangesFrom(have)
	r.Differences, r.State = changes.Differences, want.Hash()
	if t := f.ns.tables[f.table]; t != nil && have.Table != nil {
		previous := t.tag
		r.Previous = &previous
	}
	switch {
	case len(r.Differences) == 0:
		r.Outcome = nft.Unchanged
		return
	case have.Table == nil:
		r.Outcome = nft.Created
	case changes.ElementsOnly:
		r.Outcome = nft.Updated
	default:
		r.Outcome = nft.Replaced
	}
	r.Downgrade = policy.Downgrade(r.Version, r.Result)
	if f.ns.tables == nil {
		f.ns.tables = map[string]*table{}
	}
	live := clone(want)
	keepLive(live.Table, have.Table)
	f.ns.tables[f.table] = &table{live: live.Normal(), written: want, tag: nft.Tag{Schema: 1, Hash: r.State, Version: r.Version}}
}

// keepLive carries the elements of live sets over from what was there.
func keepLive(into, from *rules.Table) {
	if from == nil {
		return
	}
	for _, s := range into.Sets {
		if old := from.Set(s.Name); s.Live && old != nil && old.Live {
			s.Elements = old.Elements
		}
	}
}

func (f *Fake) remove(r *capture.Report) {
	t := f.ns.tables[f.table]
	if t == nil {
		r.Outcome = nft.Absent
		return
	}
	r.Outcome, r.Differences = nft.Removed, rules.State{}.Compare(t.live)
	if t.live.Table != nil {
		r.Previous = &t.tag
	}
	r.Downgrade = policy.Downgrade(r.Version, r.Result)
	delete(f.ns.tables, f.table)
}

// drift is in which parts the table is not as it was written, in the words of the
// table's tag.
func (f *Fake) drift() []rules.Difference {
	t := f.ns.tables[f.table]
	if t == nil || t.live.Table == nil {
		return []rules.Difference{{Where: "table inet " + f.table, Want: "what an apply writes"}}
	}
	_, wrote := t.written.Digest()
	_, holds := t.live.Digest()
	part := func(list []rules.Part, name string) (string, bool) {
		i := slices.IndexFunc(list, func(p rules.Part) bool { return p.Name == name })
		if i < 0 {
			return "", false
		}
		return list[i].Digest, true
	}
	var out []rules.Difference
	for _, w := range wrote {
		if have, there := part(holds, w.Name); !there || have != w.Digest {
			out = append(out, rules.Difference{Where: w.Name, Want: w.Digest, Have: have})
		}
	}
	for _, h := range holds {
		if _, was := part(wrote, h.Name); !was {
			out = append(out, rules.Difference{Where: h.Name, Have: h.Digest})
		}
	}
	return out
}
