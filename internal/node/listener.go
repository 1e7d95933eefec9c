// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"github.com/weir-mesh/weir/internal/node/watch"
)

// listener is the agent as the watcher tells it.
type listener struct{ *Agent }

func (l listener) Changed(c watch.Change) {
	if c.ID == watch.Own {
		l.Ambient.hostChanged(c)
	}
	l.mu.Lock()
	key, known := l.ids[c.ID]
	l.mu.Unlock()
	if known {
		l.keeper.Load().Changed(key, cause(c))
	}
}

func (l listener) Appeared(watch.ID) { l.Refresh() }

func (l listener) Disappeared(id watch.ID) {
	l.mu.Lock()
	key, known := l.ids[id]
	delete(l.ids, id)
	if known {
		l.Ambient.gone(l.pods[key], key)
		delete(l.pods, key)
	}
	l.mu.Unlock()
	if known {
		l.keeper.Load().Forget(key)
	}
}

func (l listener) Overrun() {
	for _, t := range l.Tell {
		t.Overrun()
	}
	l.Log.Warn("notifications of the kernel were lost: every network namespace is looked at")
	l.Sweep()
}
