// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/netns"
)

// listingPause is how long to wait for more of what makes a listing necessary, or longer where a listing takes more than
// a tenth of that.
const listingPause = 20 * time.Millisecond

// firstAnswerTime is how long the API server has for its first answer before pods are decided about without it.
const firstAnswerTime = 500 * time.Millisecond

func (a *Agent) keepListing(ctx context.Context) {
	if a.Cluster != nil {
		limited, cancel := context.WithTimeout(ctx, firstAnswerTime)
		a.Cluster.AwaitSynced(limited)
		cancel()
	}
	start := time.Now()
	a.list(ctx)
	close(a.listed)
	for {
		pause := max(listingPause, 10*time.Since(start))
		select {
		case <-ctx.Done():
			return
		case <-a.refresh:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		start = time.Now()
		a.list(ctx)
	}
}

// list finds the pods that have come and gone.
func (a *Agent) list(ctx context.Context) {
	found, err := inventory.All(ctx, a.Sources)
	if ctx.Err() != nil {
		return
	}
	there, sandboxes := map[keep.Key]bool{}, map[string]bool{}
	for _, p := range found {
		key := keep.Key(p.Inode)
		if there[key] || p.Inode == a.own {
			continue
		}
		there[key] = true
		sandboxes[p.Container] = true
		a.meet(ctx, key, p)
	}
	a.Ambient.writeEnrolled(a)
	a.mu.Lock()
	defer a.mu.Unlock()
	if fmt.Sprint(err) != fmt.Sprint(a.listing) {
		a.listing = err
		if err != nil {
			a.Log.Warn("some pods may not be known", "error", err)
		}
	}
	whole := !slices.ContainsFunc(problems.List(err), func(e error) bool { return !errors.Is(e, inventory.ErrHidden) })
	if whole {
		if err := a.Written.Prune(sandboxes); err != nil {
			a.Log.Warn("what was written into pods that have gone is not forgotten", "error", err)
		}
	}
	for key, p := range a.pods {
		if there[key] || !whole {
			continue
		}
		delete(a.pods, key)
		delete(a.ids, p.id)
		a.keeper.Load().Forget(key)
		a.Ambient.gone(p, key)
	}
}

// meet takes in what is known of a namespace.
func (a *Agent) meet(ctx context.Context, key keep.Key, found inventory.Pod) {
	a.mu.Lock()
	p, known := a.pods[key]
	a.mu.Unlock()
	if known {
		if p.learn(found) {
			a.keeper.Load().Look(key)
		}
		return
	}
	ns, err := netns.Open(found.Netns)
	if err != nil {
		return // it has gone
	}
	defer ns.Close()
	id, err := a.watcher.ID(ctx, ns.FD())
	if err != nil { // the sweep alone looks after it
		a.Log.Warn("changes in a network namespace are not heard", "pod", found.String(), "netns", found.Netns, "error", err)
	}
	a.mu.Lock()
	a.pods[key] = &pod{known: found, id: id}
	if err == nil {
		a.ids[id] = key
	}
	a.mu.Unlock()
	a.keeper.Load().Add(key)
}
