// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/internal/egress/names"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/rules"
)

// share is what connections under one name moved, of a destination that has several.
type share struct{ Conns, Closed, Sent, Received uint64 }

type shareKey struct {
	Destination
	name string
}

// flow is a connection whose client gave a name.
type flow struct {
	name, owner string
	cookie      uint64           // of its socket, once that was seen
	counted     sockdiag.Traffic // of it, so far
	known       bool             // it counts as a connection already
	missed      int              // lists of open connections, one after the other, that lack it
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
	maxMissed = 2       // lists that lack a connection: its end was not heard
)

// shared splits what set counters cannot: it joins the traffic of sockets with the names that
// their clients gave.
type shared struct {
	flows  map[sockdiag.Ends]*flow
	shares map[shareKey]*share
	early  []ended // of which no name is known yet
	Lost   bool    // some end was not heard of, or some connection had no room
}

func newShared() *shared {
	return &shared{flows: map[sockdiag.Ends]*flow{}, shares: map[shareKey]*share{}}
}

// claim remembers whose connection it is.
func (s *shared) claim(c names.Claim, owner string) {
	at := sockdiag.Ends{Local: c.Src, Remote: c.Dst}
	if rules.Proto(c.Proto) != rules.TCP || c.Name == "" {
		return
	}
	if had := s.flows[at]; had != nil { // HTTP may ask for another host, and a port may be used again
		had.name, had.owner = c.Name, owner
		return
	}
	if len(s.flows) >= maxFlows {
		s.Lost = true
		return
	}
	s.flows[at] = &flow{name: c.Name, owner: owner}
}

// take adds what the sockets of namespaces moved since it was taken last.
func (s *shared) take(ctx context.Context, of []*sockets, now time.Time) error {
	found, whole := map[sockdiag.Ends]bool{}, true
	callers := map[netip.Addr]bool{}
	for at := range s.flows {
		callers[at.Local.Addr()] = true
	}
	var closed []sockdiag.Socket
	for _, one := range of {
		if one.hasAny(callers) {
			open, all, err := one.open(ctx)
			if err != nil {
				return err
			}
			whole = whole && all
			for _, c := range open {
				found[c.Ends] = true
				s.moved(c)
			}
		}
		gone, lost, err := sockdiag.Ended(one.events)
		if err != nil {
			return err
		}
		s.Lost = s.Lost || lost
		closed = append(closed, gone...)
	}
	s.end(closed, now)
	if whole {
		s.age(found)
	}
	return nil
}

// end adds what connections moved until they ended. Those without a name wait for it.
func (s *shared) end(closed []sockdiag.Socket, now time.Time) {
	waiting := s.early
	for _, one := range closed {
		waiting = append(waiting, ended{one, now.Add(nameWait)})
	}
	s.early = nil
	for _, one := range waiting {
		switch {
		case s.moved(one.Socket):
			s.close(one.Ends)
		case !now.Before(one.until):
		case len(s.early) < maxClosed:
			s.early = append(s.early, one)
		default:
			s.Lost = true
		}
	}
}

// age forgets connections that are open no longer though their end was not heard: what they
// were last seen to have moved stays counted.
func (s *shared) age(open map[sockdiag.Ends]bool) {
	for at, f := range s.flows {
		if open[at] {
			f.missed = 0
			continue
		}
		if f.missed++; f.missed >= maxMissed {
			s.close(at)
		}
	}
}

// close forgets a connection that has ended.
func (s *shared) close(at sockdiag.Ends) {
	f := s.flows[at]
	delete(s.flows, at)
	if of := s.shares[shareKey{Destination{rules.TCP, at.Remote, f.owner}, f.name}]; of != nil && f.known {
		of.Closed++
	}
}

// moved adds what a socket moved since; false means that it has no name.
func (s *shared) moved(one sockdiag.Socket) bool {
	f := s.flows[one.Ends]
	if f == nil {
		return false
	}
	if f.cookie != one.Cookie {
		f.cookie, f.counted, f.known = one.Cookie, sockdiag.Traffic{}, false
	}
	now := one.Traffic
	if !now.Known || now.Sent < f.counted.Sent || now.Received < f.counted.Received {
		return true
	}
	key := shareKey{Destination{rules.TCP, one.Remote, f.owner}, f.name}
	of := s.shares[key]
	if of == nil {
		if len(s.shares) >= maxFlows {
			s.Lost = true
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

// of is the share of a name, the zero one where it has none.
func (s *shared) of(d Destination, name string) share {
	if x := s.shares[shareKey{d, name}]; x != nil {
		return *x
	}
	return share{}
}

// parts are the shares of a destination, and what is left of its total beside them: headers,
// and connections without a name.
func (s *shared) parts(d Destination, found []string, t Total) (of map[string]share, rest Total) {
	of, rest = map[string]share{}, t
	for _, name := range found {
		x := s.of(d, name)
		if x == (share{}) {
			continue
		}
		of[name] = x
		rest.Opened -= min(rest.Opened, x.Conns)
		rest.Sent -= min(rest.Sent, x.Sent)
		rest.Received -= min(rest.Received, x.Received)
	}
	return of, rest
}
