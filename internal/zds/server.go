// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a server. The zero Options are right on a node.
type Options struct {
	Users   []uint32      // whose processes may connect, by SO_PEERCRED; nil: root's
	Timeout time.Duration // for the hello, and for each acknowledgement; 0: 5 s
	Log     *slog.Logger  // nil: nothing is logged

	// Changed, if it is set, is called each time a proxy comes or goes, with how many there are. It must
	// not call the server.
	Changed func(proxies int)
}

// Server knows the pods of a node, and tells the proxies that connect to it. Its methods may be called from
// several goroutines.
type Server struct {
	options Options

	interval time.Duration // between two connections

	mu      sync.Mutex
	pods    map[string]*pod // by UID
	proxies []*proxy        // by when they said hello
	changed chan struct{}   // closed, and made again, where something that Enrol waits for changed
}

// pod is a pod and what the proxies think of it.
type pod struct {
	Workload
	ns      *os.File // nil: its namespace is not known
	id      inode
	served  bool   // a proxy acknowledged it
	refusal string // a proxy's last word, where it was not that
}

// inode tells namespaces apart.
type inode struct{ device, number uint64 }

// New is a server without pods.
func New(options Options) *Server {
	if options.Timeout == 0 {
		options.Timeout = 5 * time.Second
	}
	if options.Users == nil {
		options.Users = []uint32{0}
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{options: options, interval: acceptInterval, pods: map[string]*pod{}, changed: make(chan struct{})}
}

// ErrNoProxy is that no proxy is connected that could serve a pod.
var ErrNoProxy = errors.New("no proxy of the node is connected")

// RefusedError is that the proxy answered that it cannot serve a pod. It may try again by itself.
type RefusedError struct {
	Workload Workload
	Reason   string // the proxy's words
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the node's proxy refused pod %s: %s", e.Workload, e.Reason)
}

// Enrol has a pod served in the network namespace of a descriptor, and waits until a proxy acknowledged that. The descriptor
// stays the caller's. Whatever the error, the server knows the pod from then on and tells every proxy that
// connects later: a caller who gives up releases it. The error matches ErrNoProxy where none was connected
// when the context ended, and is a *[RefusedError] where the proxy refused.
//
// A pod that is served in that namespace already is not told again. One of the same UID in another namespace
// (its sandbox was made anew) takes the place of the former.
func (s *Server) Enrol(ctx context.Context, w Workload, netns int) error {
	p, err := s.record(w, netns)
	if err != nil {
		return err
	}
	for {
		s.mu.Lock()
		served, refusal, changed, proxies, current := p.served, p.refusal, s.changed, len(s.proxies), s.pods[w.UID] == p
		s.mu.Unlock()
		switch {
		case served:
			return nil
		case refusal != "":
			return &RefusedError{w, refusal}
		case !current:
			return fmt.Errorf("pod %s was released, or enrolled in another namespace, meanwhile", w)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if proxies == 0 {
				return ErrNoProxy
			}
			return fmt.Errorf("the node's proxy did not answer about pod %s: %w", w, context.Cause(ctx))
		}
	}
}

// Prepare has every proxy that connects from now on told of a pod, without waiting for one: for the pods
// that there are before Serve.
func (s *Server) Prepare(w Workload, netns int) error {
	_, err := s.record(w, netns)
	return err
}

// record makes a pod known, and tells the newest proxy.
func (s *Server) record(w Workload, netns int) (*pod, error) {
	var st unix.Stat_t
	if err := unix.Fstat(netns, &st); err != nil {
		return nil, fmt.Errorf("network namespace of pod %s: %w", w, err)
	}
	id := inode{st.Dev, st.Ino}
	s.mu.Lock()
	defer s.mu.Unlock()
	former := s.pods[w.UID]
	if former != nil && former.ns != nil && former.id == id && former.Workload == w {
		if former.refusal != "" {
			former.refusal = ""
			s.tellNewest(former)
		}
		return former, nil
	}
	fd, err := unix.FcntlInt(uintptr(netns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("network namespace of pod %s: %w", w, err)
	}
	p := &pod{Workload: w, ns: os.NewFile(uintptr(fd), "netns of "+w.UID), id: id}
	s.pods[w.UID] = p
	s.tellNewest(p)
	if former != nil {
		s.drop(former)
	}
	s.announce()
	return p, nil
}

// KeepServed makes a pod known whose namespace is not: a proxy that serves it goes on.
func (s *Server) KeepServed(w Workload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pods[w.UID] == nil {
		s.pods[w.UID] = &pod{Workload: w}
	}
}

// Release has a pod served no longer. It does not wait: each proxy is told in its turn.
func (s *Server) Release(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[uid]
	if p == nil {
		return
	}
	delete(s.pods, uid)
	s.drop(p)
	s.announce()
}

// drop has every proxy that was told of a pod give it up, unless it is told of another of that UID before.
// s.mu is held.
func (s *Server) drop(p *pod) {
	p.close()
	for _, to := range s.proxies {
		to.push(job{Del, p})
	}
}

// Status is what a server knows at a moment.
type Status struct {
	Proxies int // connected, and past their hello
	Pods    int
	Served  int // pods that a proxy acknowledged
}

// Status tells what there is.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Proxies: len(s.proxies), Pods: len(s.pods)}
	for _, p := range s.pods {
		if p.served {
			st.Served++
		}
	}
	return st
}

// Close forgets every pod, once Serve returned. The proxies that go on serving them are told of them by the
// next server.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pods {
		p.close()
	}
	clear(s.pods)
	s.announce()
}

func (p *pod) close() {
	if p.ns != nil {
		p.ns.Close()
	}
}

// announce wakes those that wait for a change. s.mu is held.
func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}
