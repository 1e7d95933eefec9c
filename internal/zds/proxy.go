// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxJobs     = 8192 // that wait for one proxy beside its snapshot: more than a node has pods
	maxResponse = 4096 // bytes: an acknowledgement is a line of text
)

// proxy is one connection.
type proxy struct {
	server *Server
	conn   *net.UnixConn

	// Guarded by the server's mutex.
	jobs []job
	told map[string]*pod // by UID: the Adds that were sent
	wake chan struct{}   // of capacity 1
}

// job is a request that waits to be sent.
type job struct {
	kind Kind
	pod  *pod
}

func newProxy(s *Server, conn *net.UnixConn) *proxy {
	return &proxy{server: s, conn: conn, told: map[string]*pod{}, wake: make(chan struct{}, 1)}
}

// push has a request sent after those that wait. A proxy that takes nothing is hung up on: it will connect
// again, and be told of what there is then. The server's mutex is held.
func (p *proxy) push(j job) {
	if len(p.jobs) >= maxJobs+len(p.server.pods) {
		p.conn.Close()
		return
	}
	p.jobs = append(p.jobs, j)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next is the request to send now, which must be acknowledged, or false where there is none. Requests that
// have lost their reason are left out.
func (p *proxy) next() (job, bool) {
	s := p.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p.jobs) > 0 {
		j := p.jobs[0]
		p.jobs = p.jobs[1:]
		switch j.kind {
		case Add:
			if s.pods[j.pod.UID] != j.pod { // it has gone again
				continue
			}
			p.told[j.pod.UID] = j.pod
		case Del:
			if p.told[j.pod.UID] != j.pod { // it was never told, or of another in its place
				continue
			}
			delete(p.told, j.pod.UID)
		}
		return j, true
	}
	p.jobs = nil
	return job{}, false
}

// serve talks to a proxy until it goes or the context ends.
func (p *proxy) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { p.conn.Close() })()
	defer p.conn.Close()
	if err := p.hello(); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	p.server.join(p)
	defer p.server.leave(p)
	answers, gone := make(chan string), make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() { gone <- p.read(answers, done) }()
	for {
		for j, more := p.next(); more; j, more = p.next() {
			if err := p.ask(j, answers, gone); err != nil {
				return err
			}
		}
		select {
		case <-p.wake:
		case err := <-gone:
			return err
		case <-answers:
			return errors.New("it acknowledged what it was not asked")
		}
	}
}

func (p *proxy) hello() error {
	if err := p.conn.SetReadDeadline(time.Now().Add(p.server.options.Timeout)); err != nil {
		return err
	}
	buffer := make([]byte, 64)
	n, _, flags, _, err := p.conn.ReadMsgUnix(buffer, nil)
	switch {
	case err != nil:
		return err
	case flags&unix.MSG_TRUNC != 0:
		return fmt.Errorf("a packet of more than %d bytes", len(buffer))
	}
	if err := parseHello(buffer[:n]); err != nil {
		return err
	}
	return p.conn.SetReadDeadline(time.Time{})
}

// read hands on what the proxy answers until it goes. Descriptors that it sends are not taken.
func (p *proxy) read(answers chan<- string, done <-chan struct{}) error {
	buffer := make([]byte, maxResponse)
	for {
		n, _, flags, _, err := p.conn.ReadMsgUnix(buffer, nil)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		problem := fmt.Sprintf("an answer of more than %d bytes", len(buffer)) // success has two
		if flags&unix.MSG_TRUNC == 0 {
			if problem, err = parseAck(buffer[:n]); err != nil {
				return err
			}
		}
		select {
		case answers <- problem:
		case <-done:
			return nil
		}
	}
}

// ask sends a request and waits for its acknowledgement. An acknowledgement that comes later would be taken
// for that of the next request, so that none in time ends the connection.
func (p *proxy) ask(j job, answers <-chan string, gone <-chan error) error {
	kind, sent, err := p.send(j)
	if err != nil || !sent {
		return err
	}
	late := time.NewTimer(p.server.options.Timeout)
	defer late.Stop()
	select {
	case problem := <-answers:
		if problem != "" {
			p.server.options.Log.Warn("the node's proxy refused a request", "request", kind.String(), "pod", j.name(), "reason", problem)
		}
		if kind == Add {
			p.server.answered(j.pod, problem)
		}
		return nil
	case err := <-gone:
		return err
	case <-late.C:
		return fmt.Errorf("%s %s was not acknowledged within %s", kind, j.name(), p.server.options.Timeout)
	}
}

func (j job) name() string {
	if j.pod == nil {
		return ""
	}
	return j.pod.String()
}

// send sends a request, unless its pod was released a moment ago.
func (p *proxy) send(j job) (kind Kind, sent bool, err error) {
	if err := p.conn.SetWriteDeadline(time.Now().Add(p.server.options.Timeout)); err != nil {
		return j.kind, false, err
	}
	r := Request{Kind: j.kind}
	if j.pod != nil {
		r.Workload = j.pod.Workload
	}
	if j.kind != Add || j.pod.ns == nil {
		if j.kind == Add {
			r.Kind = Keep
		}
		_, err = p.conn.Write(r.Append(nil))
		return r.Kind, true, err
	}
	raw, err := j.pod.ns.SyscallConn()
	if err != nil {
		return r.Kind, false, err
	}
	closed := raw.Control(func(fd uintptr) { // which holds it open meanwhile
		_, _, err = p.conn.WriteMsgUnix(r.Append(nil), unix.UnixRights(int(fd)), nil)
	})
	return r.Kind, closed == nil, err
}
