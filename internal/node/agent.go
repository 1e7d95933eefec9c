// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package node is the node's agent: it finds the pods of the node, captures those that should be captured and
// are not, hears what changes in their network namespaces, heals it, and tells. What pods say is for package
// mesh, what is done to the kernel for package capture, and when it is done for package keep.
package node

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/ledger"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/node/watch"
	"github.com/weir-mesh/weir/netns"
)

// Options are what the agent is given.
type Options struct {
	Node    cni.Node // what the node's operator decided about pods
	Sources []inventory.Source
	Cluster Cluster  // nil: there is none
	Ambient *Ambient // nil: pods of the ambient mesh are left alone
	Tell    []Teller
	Log     *slog.Logger

	Runtime   Runtime // nil: none tells of containers before they run
	CgroupDir string  // where the machine's cgroups of version 2 are; "" where there are none

	StateDir string        // where a release is kept, beyond a reboot of the node
	Written  ledger.Ledger // what this node's agents and plugins wrote
	Sweep    time.Duration // from one look at every namespace to the next
	Limits   keep.Limits
}

// Cluster is what an API server knows.
type Cluster interface {
	// Pod is a pod of this node, with its spec; false where it is not known.
	Pod(namespace, name string) (mesh.Pod, bool)
	// PodByUID is the same, for namespaces that only a cgroup tells the pod of.
	PodByUID(uid string) (mesh.Pod, bool)
	// Await is a pod that starts at this moment, of which the kubelet may have heard before.
	Await(ctx context.Context, namespace, name, uid string) (mesh.Pod, bool)
	// Pods are those of this node.
	Pods() []mesh.Pod
	// Namespaces are those that have a label of that value.
	Namespaces(label, value string) []string
	// ServiceAccount is the name of a pod's; "" where the pod is not known.
	ServiceAccount(namespace, name string) string
	// Synced reports whether everything was listed once.
	Synced() bool
	// AwaitSynced waits for that, and reports whether it came before the context ended.
	AwaitSynced(ctx context.Context) bool
}

// Runtime is a container runtime that tells of containers before they run.
type Runtime interface {
	// Connected reports whether it does at this moment.
	Connected() bool
}

// Agent is the node's agent.
type Agent struct {
	Options
	own     uint64 // the number of the machine's namespace, in which it runs
	watcher *watch.Watcher
	keeper  atomic.Pointer[keep.Keeper]
	refresh chan struct{} // the pods are to be listed again
	listed  chan struct{} // closed once they were

	mu   sync.Mutex
	pods map[keep.Key]*pod
	ids  map[watch.ID]keep.Key

	listing error // why a source told nothing, at the last listing
}

// New is an agent in the calling thread's network namespace, which is the machine's. It listens from now on.
func New(o Options) (*Agent, error) {
	own, err := netns.Current().Inode()
	if err != nil {
		return nil, err
	}
	watcher, err := watch.Open()
	if err != nil {
		return nil, err
	}
	return &Agent{Options: o, own: own, watcher: watcher, refresh: make(chan struct{}, 1), listed: make(chan struct{}),
		pods: map[keep.Key]*pod{}, ids: map[watch.ID]keep.Key{}}, nil
}

// Run works until the context ends. The error is that nothing is heard any more.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer a.watcher.Close()
	a.keeper.Store(keep.New(ctx, a.mend, a.tell, a.Limits))
	var all sync.WaitGroup
	all.Go(func() {
		if err := a.watcher.Run(ctx, listener{a}); err != nil {
			cancel(err)
		}
	})
	all.Go(func() { a.keepListing(ctx) })
	if a.Ambient != nil {
		all.Go(func() { a.Ambient.run(ctx, a) })
	}
	all.Go(func() { a.keepSweeping(ctx) })
	all.Go(func() { a.keepCounting(ctx) })
	all.Go(func() { a.keepReadingSettings(ctx) })
	<-ctx.Done()
	all.Wait()
	a.keeper.Load().Wait()
	if err := context.Cause(ctx); err != context.Canceled {
		return err
	}
	return nil
}

// Refresh has the pods listed again soon.
func (a *Agent) Refresh() {
	select {
	case a.refresh <- struct{}{}:
	default: // it is to be done already
	}
}

// Sweep looks at every namespace.
func (a *Agent) Sweep() {
	a.Refresh()
	if k := a.keeper.Load(); k != nil { // it runs
		k.Sweep()
	}
}

// Listed is closed once the pods of the node were listed.
func (a *Agent) Listed() <-chan struct{} { return a.listed }

// Reconsider looks at the namespaces about which something else is decided than at their last look.
func (a *Agent) Reconsider() {
	k := a.keeper.Load()
	if k == nil {
		return // the first look is still to come
	}
	for key, p := range a.known() {
		if a.reconsiders(p) {
			k.Look(key)
		}
	}
}

// known are the pods that the agent knows at this moment.
func (a *Agent) known() map[keep.Key]*pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.pods)
}

func (a *Agent) keepSweeping(ctx context.Context) {
	tick := time.NewTicker(a.Options.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.Sweep()
		}
	}
}
