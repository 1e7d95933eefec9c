// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds

import (
	"maps"
	"slices"
)

// tellNewest has the newest proxy serve a pod. s.mu is held.
func (s *Server) tellNewest(p *pod) {
	if len(s.proxies) > 0 {
		s.proxies[len(s.proxies)-1].push(job{Add, p})
	}
}

// join begins a proxy's snapshot: from here on it is the newest.
func (s *Server) join(p *proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, uid := range slices.Sorted(maps.Keys(s.pods)) {
		p.jobs = append(p.jobs, job{Add, s.pods[uid]})
	}
	p.jobs = append(p.jobs, job{kind: SnapshotSent})
	s.proxies = append(s.proxies, p)
	s.report()
}

// leave ends a proxy. Where it was the newest, the one before is told of what it was not.
func (s *Server) leave(p *proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.proxies, p)
	if at < 0 {
		return
	}
	s.proxies = slices.Delete(s.proxies, at, at+1)
	if last := len(s.proxies) - 1; at > last && last >= 0 {
		for _, uid := range slices.Sorted(maps.Keys(s.pods)) {
			if to := s.proxies[last]; to.told[uid] != s.pods[uid] {
				to.push(job{Add, s.pods[uid]})
			}
		}
	}
	s.report()
}

func (s *Server) report() {
	s.announce()
	if s.options.Changed != nil {
		s.options.Changed(len(s.proxies))
	}
}

// answered records what a proxy said of a pod. A proxy that is not the newest may say that it cannot serve
// one which the newest does serve.
func (s *Server) answered(p *pod, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case problem == "":
		p.served, p.refusal = true, ""
	case !p.served:
		p.refusal = problem
	}
	s.announce()
}
