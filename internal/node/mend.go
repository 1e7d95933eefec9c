// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// mend looks at a namespace, and makes it what it should be where that is ordered.
func (a *Agent) mend(ctx context.Context, key keep.Key, order keep.Order) keep.Result {
	a.mu.Lock()
	p := a.pods[key]
	a.mu.Unlock()
	if p == nil {
		return keep.Result{Gone: true}
	}
	ns, err := p.open(uint64(key))
	if errors.Is(err, netns.ErrNotExist) {
		return keep.Result{Gone: true}
	}
	if err != nil {
		return keep.Result{Err: netns.WithAdvice(err)}
	}
	defer ns.Close()
	known := p.snapshot()
	w := &look{Agent: a, pod: p, ns: ns, order: order}
	if a.Released() {
		return w.released(known)
	}
	if p.isEnding() {
		return keep.Result{}
	}
	described := a.describe(p)
	d, err := a.Node.Decide(described)
	met, anew := p.decide(decided(described, d, err), known.IsPod(), described.Spec != nil || a.Cluster == nil)
	result := w.asDecided(ctx, described, d, err)
	result.Senders = w.senders
	if w.wrote && a.Released() { // since a moment: what this look put back nobody else removes
		_, err := releaseIn(ctx, ns)
		result = w.released(known)
		result.Err = err
		return result
	}
	result.Met, result.Anew = met, anew
	return result
}

// asDecided looks at a namespace of which something is decided, or of which nothing can be.
func (w *look) asDecided(ctx context.Context, described mesh.Pod, d mesh.Decision, err error) keep.Result {
	known := w.pod.snapshot()
	w.pod.set(func(s *Status) {
		s.By, s.Reason = d.By, d.Reason
		switch { // where neither holds, the look tells: what is told of the one before may be judged meanwhile
		case err != nil:
			s.Mode = ""
		case d.Outcome == mesh.Captured:
			s.Mode = d.Config.Mode
		}
	})
	switch {
	case err != nil && known.IsPod():
		return keep.Result{Err: fmt.Errorf("%s is not captured: %w", known, err)}
	case d.Outcome == mesh.Ambient && w.Ambient != nil:
		return w.ambient(ctx, d, described)
	case w.Ambient.has(described.UID):
		if err := w.leaveAmbient(ctx, described.UID); err != nil {
			return keep.Result{Err: err}
		}
	}
	if err == nil && d.Outcome == mesh.Captured && d.Config.Mode != modes.ModeNone {
		return w.captured(ctx, d, described.Spec != nil)
	}
	return w.written(ctx)
}

// look is one look at a namespace.
type look struct {
	*Agent
	pod   *pod
	ns    *netns.Namespace
	order keep.Order
	wrote bool // something into the namespace

	senders []uint32 // the sockets by which it did
}

// captured looks at a namespace of which it is known what it should be.
func (w *look) captured(ctx context.Context, d mesh.Decision, whole bool) keep.Result {
	known := w.pod.snapshot()
	if d.ProxyContainer != "" && w.Runtime == nil {
		return keep.Result{Err: fmt.Errorf("%w; remedy: %s", errUnmarked, mesh.UnmarkedRemedy)}
	}
	c, err := cni.NewCapture(ctx, w.ns, d, known.Resolvers, capture.Options{LoopbackLater: true, WriteSysctls: true, Conflicts: w.order.Foreign})
	if err != nil {
		return keep.Result{Err: netns.WithAdvice(err)}
	}
	defer c.Close()
	v, err := c.Verify(ctx)
	if err != nil {
		return keep.Result{Err: explained(d, err)}
	}
	result := found(v)
	want, _, err := c.State(ctx)
	if err != nil {
		return keep.Result{Err: err}
	}
	w.pod.need(want.Sysctls)
	lacking, err := settings(w.ns, want.Sysctls)
	if err != nil {
		return keep.Result{Err: err}
	}
	if (!v.Clean() || len(lacking) > 0) && w.unattached(ctx) {
		return w.withoutNetwork(v)
	}
	if !v.Clean() {
		written, err := w.byTag(ctx, c, whole)
		if err != nil {
			return keep.Result{Err: err}
		}
		if written != "" {
			w.pod.set(func(s *Status) { s.State = written })
			as := keep.Result{Generation: v.Generation, Conflicts: result.Conflicts}
			w.count(ctx, *w.pod.acceptedState(), &as)
			return as
		}
	}
	result.Differences = append(result.Differences, lacking...)
	if w.order.Heal {
		for _, r := range v.Later {
			result.Differences = append(result.Differences, rules.Difference{Where: "route", Want: r.String()}.String())
		}
	}
	if len(result.Differences) == 0 {
		w.pod.captured("")
		w.note(want.Hash())
		result.Generation = v.Generation
		w.count(ctx, want, &result)
		return result
	}
	if w.order.Heal {
		if w.pod.isEnding() { // since a moment
			return keep.Result{}
		}
		w.heal(ctx, c, &result)
		if result.Err != nil && w.unattached(ctx) {
			return w.withoutNetwork(v)
		}
		result.Err = explained(d, result.Err)
	}
	if result.Healed {
		w.count(ctx, want, &result)
	}
	return result
}

// withoutNetwork leaves a namespace alone in which nothing can be captured.
func (w *look) withoutNetwork(v capture.Verdict) keep.Result {
	w.pod.set(func(s *Status) { s.State, s.Mode, s.Reason = StateLeft, "", "it has no network" })
	return keep.Result{Generation: v.Generation}
}

// byTag is the state of a namespace that is as some weir of this node wrote it, on purpose: a newer one, or one that
// knew the pod where the agent does not know it whole; "" where it is not. A tag alone says nothing: a pod that may
// change its rules may have written it.
func (w *look) byTag(ctx context.Context, c *capture.Capture, whole bool) (string, error) {
	live, _, err := c.Live(ctx)
	if err != nil || live.State.Table == nil || live.Tag == nil {
		return "", err
	}
	drift, err := live.Drift()
	switch {
	case err != nil || len(drift) > 0 || !w.Written.Wrote(w.pod.snapshot().Container, live.Tag.Hash):
		return "", err
	case capture.Newer(live.Tag.Version):
		w.pod.accept(&live.State, live.Tag.Version)
		return StateNewer, nil
	case !whole:
		w.pod.accept(&live.State, live.Tag.Version)
		return StateCaptured, nil
	}
	return "", nil
}

func (w *look) heal(ctx context.Context, c *capture.Capture, result *keep.Result) {
	w.wrote = true
	report, err := c.Apply(ctx)
	w.senders = append(w.senders, report.Ports...)
	for _, t := range w.Tell {
		t.Applied(report, err)
	}
	if err != nil {
		result.Err = err
		return
	}
	result.Healed, result.Outcome, result.Generation = true, string(report.Outcome), report.Generation
	w.pod.captured(report.Version)
	w.note(report.State)
}

// unheard reports whether what is in the way begins and ends without a notification, as sockets do: the proxy's
// own start is one of them.
func unheard(k conflict.Kind) bool { return k.OfListeners() || k == conflict.ConnectProgram }

// found is what a verdict says.
func found(v capture.Verdict) (r keep.Result) {
	r.Seen = v.Generation
	for _, d := range v.Differences {
		r.Differences = append(r.Differences, d.String())
	}
	for _, c := range v.Conflicts {
		if !c.May && !unheard(c.Kind) {
			r.Conflicts = append(r.Conflicts, c.String())
		}
	}
	return r
}

// explained is an error in the words of the author of the pod's annotations.
func explained(d mesh.Decision, err error) error {
	if err == nil || d.Explain == nil {
		return err
	}
	var wrong *modes.ConfigError
	if errors.As(err, &wrong) {
		return d.Explain(err)
	}
	return err
}
