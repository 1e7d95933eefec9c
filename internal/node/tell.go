// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"strings"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
)

// Teller is told what the agent finds and does: metrics, events, whatever else. It must not wait.
type Teller interface {
	Found(inventory.Pod, Status, keep.Finding)
	Applied(capture.Report, error)
	Escaped(inventory.Pod, Status, escapes.Count)
	Overrun()
}

// tell logs a finding, and tells it to whoever else is to know.
func (a *Agent) tell(f keep.Finding) {
	a.mu.Lock()
	p := a.pods[f.Key]
	a.mu.Unlock()
	if p == nil || p.isEnding() {
		return
	}
	status := p.judge(f)
	known := p.snapshot()
	log := a.Log.With("pod", known.String(), "netns", known.Netns)
	writer := strings.Join(f.Writers, "; ")
	switch {
	case f.Err != nil:
		log.Error("not captured as it should be", "error", f.Err, "found", f.Differences)
	case f.GaveUp:
		log.Error("another program puts its own rules back again and again: healed once more, and next time by a sweep",
			"writer", writer, "heals", f.Heals, "found", f.Differences)
	case f.Healed && f.Anew:
		log.Info("captured as it is decided now", "outcome", f.Outcome, "reason", status.Reason, "found", f.Differences, "seconds", f.Healing.Seconds())
	case f.Healed && f.First:
		log.Warn("was not captured as it should be", "outcome", f.Outcome, "found", f.Differences, "seconds", f.Healing.Seconds())
	case f.Healed:
		log.Warn("healed", "outcome", f.Outcome, "writer", writer, "changed", f.Objects, "found", f.Differences,
			"noticed", f.Noticed.Seconds(), "seconds", f.Healing.Seconds(), "heals", f.Heals)
	case len(f.Differences) > 0:
		log.Warn("not as it should be", "writer", writer, "found", f.Differences)
	case len(f.Conflicts) > 0:
		log.Warn("something is in the way of captured traffic", "writer", writer, "found", f.Conflicts)
	case f.First:
		log.Debug("looked at", "state", status.State, "reason", status.Reason)
	default:
		log.Info("as it should be again", "writer", writer)
	}
	for _, t := range a.Tell {
		t.Found(known, status, f)
	}
}

// judge is the state of a namespace after a finding.
func (p *pod) judge(f keep.Finding) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.status
	s.Pod, s.UID, s.Netns = p.known.String(), p.known.UID, p.known.Netns
	if len(f.Writers) > 0 && len(f.Differences)+len(f.Conflicts) > 0 {
		s.Writer = strings.Join(f.Writers, "; ")
	}
	if f.Healed && !f.Anew {
		s.Heals++
	}
	s.Wrong = nil
	switch {
	case f.Err != nil:
		s.State, s.Wrong = StateFailed, append(f.Differences, f.Err.Error())
	case f.GaveUp:
		s.State, s.Wrong = StateFighting, f.Differences
	case len(f.Differences) > 0 && !f.Healed:
		s.State, s.Wrong = StateDrifted, f.Differences
	case len(f.Conflicts) > 0:
		s.State, s.Wrong = StateBlocked, f.Conflicts
	case s.Mode != "" && s.State != StateNewer && s.State != StateReleased:
		s.State = StateCaptured
	case s.State == "":
		s.State = StateLeft
	}
	return *s
}

// Pods are the namespaces that the agent knows, in no order.
func (a *Agent) Pods() []Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Status, 0, len(a.pods))
	for _, p := range a.pods {
		p.mu.Lock()
		s := p.status
		s.Pod, s.UID, s.Netns = p.known.String(), p.known.UID, p.known.Netns
		if s.State == "" {
			s.State = StateUnknown
		}
		p.mu.Unlock()
		out = append(out, s)
	}
	return out
}
