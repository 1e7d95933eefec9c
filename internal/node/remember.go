// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"github.com/weir-mesh/weir/rules"
)

func (p *pod) set(change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

// captured remembers that the namespace is as it should be, by the version that wrote it where that is this one.
func (p *pod) captured(version string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.State, p.seen = StateCaptured, true
	if version != "" {
		p.status.Version = version
	}
}

// accept remembers what is right although the agent does not know what should be there; nil forgets it.
func (p *pod) accept(state *rules.State, version string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted, p.status.Version = state, version
	p.seen = p.seen || state != nil
}

func (p *pod) acceptedState() *rules.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// note remembers, beyond this agent's end, what is right in the namespace.
func (w *look) note(hash string) {
	w.pod.mu.Lock()
	sandbox, noted := w.pod.known.Container, w.pod.noted
	w.pod.noted = hash
	w.pod.mu.Unlock()
	if noted == hash {
		return
	}
	if err := w.Written.Note(sandbox, hash); err != nil {
		w.Log.Warn("another agent will not know that this one wrote these rules", "pod", w.pod.snapshot().String(), "error", err)
	}
}

// forget ends that.
func (w *look) forget() {
	w.pod.mu.Lock()
	sandbox := w.pod.known.Container
	w.pod.noted = ""
	w.pod.mu.Unlock()
	if err := w.Written.Forget(sandbox); err != nil && sandbox != "" {
		w.Log.Warn("what was written here first is not forgotten", "pod", w.pod.snapshot().String(), "error", err)
	}
}

// looked reports whether the namespace was looked at before.
func (p *pod) looked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.State != ""
}
