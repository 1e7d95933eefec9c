// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/node/watch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// pod is a network namespace of the node, and what the agent remembers of it.
type pod struct {
	id watch.ID

	mu      sync.Mutex
	known   inventory.Pod
	status  Status
	noted   string    // the hash of its state, in the ledger
	told    *mesh.Pod // by the API server; nil: nothing
	decided string    // in words, at the last look
	whole   bool      // by all that there is to know
	seen    bool      // it was seen as it should be

	// accepted is what weir wrote there, where nothing that the agent knows says what it should be; nil:
	// nothing is accepted. A copy is kept to put it back.
	accepted *rules.State

	ending   time.Time      // when its network began to be taken away
	settings []rules.Sysctl // that its rules need

	count *escapes.Count // what the pod's counters were at the last reading; nil: nothing is counted
}

// States of a namespace.
const (
	StateUnknown  = "unknown"  // it was not looked at yet
	StateCaptured = "captured" // as it should
	StateLeft     = "left"     // nothing asks for capture
	StateDrifted  = "drifted"  // it is not as it should be, and is to be healed
	StateFighting = "fighting" // another program puts its own back again and again
	StateBlocked  = "blocked"  // it is as it should be, and something of others is in the way
	StateFailed   = "failed"   // it cannot be captured
	StateNewer    = "newer"    // a newer weir wrote it, which is left
	StateReleased = "released" // by weir-node release
)

// Status is what the agent knows of a namespace.
type Status = agent.Row

// learn takes in what another listing tells, and reports whether it is something new.
func (p *pod) learn(found inventory.Pod) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := p.known.Namespace == found.Namespace && p.known.Name == found.Name && p.known.UID == found.UID &&
		maps.Equal(p.known.Annotations, found.Annotations) && slices.Equal(p.known.Resolvers, found.Resolvers)
	if p.known.IsPod() && !found.IsPod() {
		p.known.Netns = found.Netns
		return false // a source that knew more does not answer now
	}
	p.known = found
	return !same
}

// open opens the pod's namespace, by its number. The error is netns.ErrNotExist where it has gone: its path may lead
// to another one since.
func (p *pod) open(inode uint64) (*netns.Namespace, error) {
	ns, err := netns.Open(p.snapshot().Netns)
	if errors.Is(err, netns.ErrNotNetns) {
		return nil, netns.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	if now, err := ns.Inode(); err != nil || now != inode {
		ns.Close()
		return nil, netns.ErrNotExist
	}
	return ns, nil
}

func (p *pod) snapshot() inventory.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known
}

// describe is the pod as packages mesh and cni are told it, and whether its spec is known.
func (a *Agent) describe(p *pod) mesh.Pod {
	known := p.snapshot()
	m := mesh.Pod{Namespace: known.Namespace, Name: known.Name, UID: known.UID, Annotations: known.Annotations}
	m.Enrolled = a.Ambient.why(m)
	if a.Cluster == nil {
		return m
	}
	told, ok := mesh.Pod{}, false
	if known.IsPod() {
		told, ok = a.Cluster.Pod(known.Namespace, known.Name)
		ok = ok && (known.UID == "" || told.UID == known.UID) // or another pod has the name now
	} else if known.UID != "" {
		told, ok = a.Cluster.PodByUID(known.UID)
	}
	if !ok {
		if told, ok = p.toldBefore(); !ok {
			return m
		}
	}
	p.remember(told)
	if known.Annotations != nil {
		told.Annotations = known.Annotations // of when the pod started: Istio's injector and plugins go by those
	}
	return told
}

// remember keeps what the API server told of the pod: it tells nothing more of one that was deleted and still ends.
func (p *pod) remember(told mesh.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = &told
}

func (p *pod) toldBefore() (mesh.Pod, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told == nil || p.told.UID != p.known.UID {
		return mesh.Pod{}, false
	}
	return *p.told, true
}

// cause is a change as the keeper is told it.
func cause(c watch.Change) keep.Cause {
	out := keep.Cause{Generation: c.Generation, Sender: c.Port}
	for _, o := range c.Objects {
		out.Objects = append(out.Objects, string(o))
		out.Foreign = out.Foreign || o == watch.PolicyRule || o == watch.Route
	}
	for table := range c.Tables {
		if !ours(table) {
			out.Foreign = true
		}
	}
	switch {
	case c.Writer != "":
		out.Writer = fmt.Sprintf("%s, PID %d", escape.Text(c.Writer), c.PID)
	case c.Generation == 0 && c.Port != 0:
		out.Writer = fmt.Sprintf("netlink port %d", c.Port)
	}
	return out
}

// ours reports whether a table is one that weir works with.
func ours(table string) bool {
	_, name, _ := strings.Cut(table, " ")
	return name == modes.DefaultTable || strings.HasPrefix(name, modes.DefaultTable+"-")
}

// decided is what was decided about a pod, in words.
func decided(p mesh.Pod, d mesh.Decision, err error) string {
	return fmt.Sprint(d.Outcome, d.By, d.Reason, p.Spec != nil, err)
}

// decide takes in what is decided about a pod, and by how much that is known. Met is that the pod was never seen as it
// should be, and anew that something else was decided before on purpose, not only for want of knowledge.
func (p *pod) decide(now string, isPod, whole bool) (met, anew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	anew = p.decided != "" && now != p.decided && isPod && (p.whole || p.seen)
	met = !p.seen && !anew
	p.decided, p.whole = now, isPod && whole
	return met, anew
}

// reconsiders reports whether what is decided about a pod is another thing than at its last look, or that look
// failed.
func (a *Agent) reconsiders(p *pod) bool {
	described := a.describe(p)
	d, err := a.Node.Decide(described)
	p.mu.Lock()
	defer p.mu.Unlock()
	return decided(described, d, err) != p.decided || p.status.State == StateFailed
}
