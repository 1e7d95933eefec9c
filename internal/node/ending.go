// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"time"

	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/netns"
)

// endingTime is how long a runtime has to take a pod's network away once it has begun.
const endingTime = 30 * time.Second

// ends has a pod left alone, by a path of its namespace: the runtime takes its network away, rules first. Where the pod
// is still there after that time it is looked at again.
func (a *Agent) ends(path string) {
	key, p := a.at(path)
	if p == nil {
		return
	}
	p.setEnding(time.Now())
	time.AfterFunc(endingTime, func() { a.keeper.Load().Look(key) })
}

// begins ends that: the runtime makes or checks the pod's network.
func (a *Agent) begins(path string) {
	if _, p := a.at(path); p != nil {
		p.setEnding(time.Time{})
	}
}

// at is the pod whose namespace a path of the machine's leads to; nil where it is not known.
func (a *Agent) at(path string) (keep.Key, *pod) {
	inode, is := netns.InodeAt(inventory.HostPath(path))
	if !is {
		return 0, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return keep.Key(inode), a.pods[keep.Key(inode)]
}

func (p *pod) setEnding(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = at
}

func (p *pod) isEnding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.ending) < endingTime
}

// unattached reports whether a namespace has no address but on lo: its network is not made yet, or taken away, and
// nothing passes that could be captured. That addresses come is heard.
func (w *look) unattached(ctx context.Context) bool {
	all, err := w.ns.Addresses(ctx)
	for _, a := range all {
		if !a.Loopback() {
			return false
		}
	}
	return err == nil
}
