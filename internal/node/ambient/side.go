// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/netns"
)

// Pod is a pod that is to be in the mesh.
type Pod struct {
	zds.Workload
	Addresses []netip.Addr // of which the node's own connections are probes
}

// Options are what the agent gives.
type Options struct {
	Settings Settings
	Host     *netns.Namespace // the machine's own
	Proxy    *zds.Server
	Version  string // of the program, which the host's table records
	Log      *slog.Logger

	// Annotate writes a pod's annotation Redirection; "" takes it away. nil: there is no API server.
	Annotate func(ctx context.Context, p Pod, value string) error
}

// Side is the ambient side of an agent. Its methods may be called from several goroutines.
type Side struct {
	Options

	mu      sync.Mutex
	members map[string]*member // by UID

	hostMu sync.Mutex // one change of the host's table at a time
}

// member is a pod that was asked for.
type member struct {
	Pod
	inode uint64 // of its namespace; 0: not known
	told  string // the value of Redirection that was written; "": none
}

// New is a side without pods.
func New(o Options) *Side { return &Side{Options: o, members: map[string]*member{}} }

// Prepare has the proxies that connect from now on told of a pod that was in the mesh before the agent
// started, without waiting for one. ns is nil where its namespace is not known: a proxy that serves it goes on.
func (s *Side) Prepare(p Pod, ns *netns.Namespace) error {
	if ns == nil {
		s.remember(p, 0)
		s.Proxy.KeepServed(p.Workload)
		return nil
	}
	inode, err := ns.Inode()
	if err != nil {
		return err
	}
	s.remember(p, inode)
	return s.Proxy.Prepare(p.Workload, ns.FD())
}

func (s *Side) remember(p Pod, inode uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[p.UID]
	if m == nil {
		m = &member{}
		s.members[p.UID] = m
	}
	m.Pod, m.inode = p, inode
}

// Enrol puts a pod into the mesh: first the proxy listens in its namespace, so that what the rules then
// capture has somewhere to go; then rules, which the caller applies and proves; then the probe set, without
// which a pod would become unready; then the annotation. A pod that is in the mesh already costs little.
//
// Whatever the error, the pod is a member from then on, and the next Enrol goes on: a caller who gives up
// releases it. The error matches zds.ErrNoProxy where no proxy was connected when the context ended.
func (s *Side) Enrol(ctx context.Context, p Pod, ns *netns.Namespace, rules func(context.Context) error) error {
	inode, err := ns.Inode()
	if err != nil {
		return err
	}
	s.remember(p, inode)
	err = s.Proxy.Enrol(ctx, p.Workload, ns.FD())
	if err == nil {
		err = rules(ctx)
	}
	if err == nil {
		err = s.exempt(ctx, p)
	}
	if err != nil {
		s.annotate(ctx, p, Pending)
		return fmt.Errorf("pod %s is not in the ambient mesh yet: %w", p, err)
	}
	s.annotate(ctx, p, Enabled)
	return nil
}

// Release takes a pod out of the mesh that lives on. What is in its namespace is the caller's to remove,
// before: captured connections have nowhere to go without a proxy.
func (s *Side) Release(ctx context.Context, uid string) error {
	m := s.forget(uid, func(*member) bool { return true })
	if m == nil {
		return nil
	}
	s.write(ctx, m.Pod, "")
	return s.giveUp(ctx, m)
}

// Gone takes a pod out of the mesh whose namespace has gone. Where it has another one by now, it stays.
func (s *Side) Gone(ctx context.Context, uid string, inode uint64) error {
	m := s.forget(uid, func(m *member) bool { return m.inode == inode })
	if m == nil {
		return nil
	}
	return s.giveUp(ctx, m)
}

func (s *Side) forget(uid string, is func(*member) bool) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[uid]
	if m == nil || !is(m) {
		return nil
	}
	delete(s.members, uid)
	return m
}

// giveUp takes a pod from the proxy and the probe set.
func (s *Side) giveUp(ctx context.Context, m *member) error {
	s.Proxy.Release(m.UID)
	return s.onHost(func(c *capture.Capture) error {
		_, err := c.DeletePods(ctx, m.probeSet())
		if err == nil {
			_, _, err = s.branchRules()
		}
		return err
	})
}

// Has reports whether a pod was asked for.
func (s *Side) Has(uid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[uid] != nil
}

// Members are the UIDs of the pods that were asked for.
func (s *Side) Members() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for uid := range s.members {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

// annotate writes the annotation where it is another than the last.
func (s *Side) annotate(ctx context.Context, p Pod, value string) {
	s.mu.Lock()
	m := s.members[p.UID]
	same := m == nil || m.told == value
	s.mu.Unlock()
	if same || !s.write(ctx, p, value) {
		return
	}
	s.mu.Lock()
	m.told = value
	s.mu.Unlock()
}

// write reports whether the annotation was written. That it was not keeps no pod from working: the next Enrol
// tries again.
func (s *Side) write(ctx context.Context, p Pod, value string) bool {
	if s.Annotate == nil {
		return true
	}
	err := s.Annotate(ctx, p, value)
	if err != nil {
		s.Log.Warn("an annotation was not written", "annotation", Redirection, "value", value, "pod", p.String(), "error", err)
	}
	return err == nil
}
