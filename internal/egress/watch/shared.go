// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"errors"
	"time"

	"github.com/weir-mesh/weir/internal/egress/names"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// share is what connections under one name moved, of a destination that has several.
type share struct{ Conns, Sent, Received uint64 }

type shareKey struct {
	Destination
	name string
}

// flow is a connection whose client gave a name.
type flow struct {
	name, user string
	counted    sockdiag.Traffic // of it, so far
	known      bool             // it counts as a connection already
}

// ended is a connection that ended, and until when its name may come.
type ended struct {
	sockdiag.Socket
	until time.Time
}

// nameWait is how much later than the end of a connection its name is read at most: copies
// are gathered before they are sent.
const nameWait = 3 * time.Second

const (
	maxFlows  = 1 << 16 // connections under a name at once
	maxClosed = 1 << 14 // that ended before their name was read
	closeRoom = 8 << 20 // bytes of connections that ended, not read yet
)

// shared splits what set counters cannot: it joins the traffic of sockets with the names that
// their clients gave.
type shared struct {
	events, dumps *nl.Socket
	flows         map[sockdiag.Ends]*flow
	shares        map[shareKey]*share
	early         []ended // of which no name is known yet
	Lost          bool    // some end was not heard of
}

func openShared(ctx context.Context, ns *netns.Namespace) (*shared, error) {
	sockets, err := nl.Open(ns.FD(), unix.NETLINK_SOCK_DIAG, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	s := &shared{events: sockets[0], dumps: sockets[1], flows: map[sockdiag.Ends]*flow{}, shares: map[shareKey]*share{}}
	if err := sockdiag.ListenEnded(ctx, s.events, closeRoom); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *shared) close() error { return nl.Close(s.events, s.dumps) }

// claim remembers whose connection it is.
func (s *shared) claim(c names.Claim, user string) {
	at := sockdiag.Ends{Local: c.Src, Remote: c.Dst}
	if rules.Proto(c.Proto) != rules.TCP || c.Name == "" || len(s.flows) >= maxFlows || s.flows[at] != nil {
		return
	}
	s.flows[at] = &flow{name: c.Name, user: user}
}

// take adds what sockets moved since it was taken last.
func (s *shared) take(ctx context.Context) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		open, err := sockdiag.Connections(ctx, s.dumps, family)
		if err != nil && !errors.Is(err, nl.ErrChanged) {
			return err
		}
		for _, one := range open {
			s.moved(one)
		}
	}
	closed, lost, err := sockdiag.Ended(s.events)
	if err != nil {
		return err
	}
	s.Lost = s.Lost || lost
	now := time.Now()
	waiting := s.early
	for _, one := range closed {
		waiting = append(waiting, ended{one, now.Add(nameWait)})
	}
	s.early = nil
	for _, one := range waiting {
		if s.moved(one.Socket) {
			delete(s.flows, one.Ends)
		} else if now.Before(one.until) && len(s.early) < maxClosed {
			s.early = append(s.early, one)
		}
	}
	return nil
}

// moved adds what a socket moved since; false means that it has no name.
func (s *shared) moved(one sockdiag.Socket) bool {
	f := s.flows[one.Ends]
	if f == nil {
		return false
	}
	now := one.Traffic
	if !now.Known || now.Sent < f.counted.Sent || now.Received < f.counted.Received {
		return true
	}
	key := shareKey{Destination{rules.TCP, one.Remote, f.user}, f.name}
	of := s.shares[key]
	if of == nil {
		if len(s.shares) >= maxFlows {
			return true
		}
		of = new(share)
		s.shares[key] = of
	}
	if !f.known {
		f.known = true
		of.Conns++
	}
	of.Sent, of.Received = of.Sent+now.Sent-f.counted.Sent, of.Received+now.Received-f.counted.Received
	f.counted = now
	return true
}

// parts are the shares of a destination, and what is left of its total beside them: headers,
// and connections without a name.
func (s *shared) parts(d Destination, found []string, t Total) (of map[string]share, rest Total) {
	of, rest = map[string]share{}, t
	for _, name := range found {
		x := s.shares[shareKey{d, name}]
		if x == nil {
			continue
		}
		of[name] = *x
		rest.Opened -= min(rest.Opened, x.Conns)
		rest.Sent -= min(rest.Sent, x.Sent)
		rest.Received -= min(rest.Received, x.Received)
	}
	return of, rest
}
