// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/netns"
)

// Starting captures a pod whose network is made, and of whose containers none runs yet, where it is to be: the plugin has
// done so before unless it is not in the network's list. The error is that the pod is to be captured and is not.
func (a *Agent) Starting(ctx context.Context, found inventory.Pod) error {
	select {
	case <-a.listed:
	case <-ctx.Done():
		return nil // the agent has just started, and finds the pod by itself
	}
	inode, is := netns.InodeAt(found.Netns)
	if !is || inode == a.own {
		return nil
	}
	found.Inode = inode
	key := keep.Key(inode)
	a.meet(ctx, key, found)
	a.mu.Lock()
	p := a.pods[key]
	a.mu.Unlock()
	if p == nil {
		return nil // it has gone
	}
	if a.Cluster != nil {
		if told, known := a.Cluster.Await(ctx, found.Namespace, found.Name, found.UID); known {
			p.remember(told)
		}
	}
	r := a.mend(ctx, key, keep.Order{Heal: true})
	switch {
	case r.Err != nil:
		return r.Err
	case len(r.Differences) > 0 && !r.Healed:
		return fmt.Errorf("%s is not captured: %s", found, r.Differences[0])
	case r.Healed:
		a.Log.Warn("was not captured by the plugin, and is before its containers run", "pod", found.String(), "netns", found.Netns,
			"outcome", r.Outcome, "found", strings.Join(r.Differences, "; "))
	}
	return nil
}
