// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"strconv"
)

const processConnections = 400

// players are a client, the proxy, and the service that the proxy goes on to, if it does: a
// process each, as in a pod.
type players struct {
	client *role
	others []*role
	count  int // of connections a turn
}

// answered has the proxy answer the connections itself: they take what capture takes alone.
func answered(ctx context.Context, p *pod, d direction) (turner, error) {
	return p.play(ctx, d, false, "answer")
}

// relayed has the proxy carry them on, to the pod's peer or to the application in the pod.
func relayed(ctx context.Context, p *pod, d direction) (turner, error) {
	switch {
	case d == inbound:
		return p.play(ctx, d, true, "relay", "127.0.0.1", "127.0.0.6")
	case p.way == wayNone:
		return p.play(ctx, d, true, "relay", peerAddress.Addr().String())
	}
	return p.play(ctx, d, true, "relay")
}

func (p *pod) play(ctx context.Context, d direction, service bool, proxy string, onwards ...string) (s *players, err error) {
	clientIn, port := p.client(d)
	s = &players{count: processConnections}
	add := func(r *role, err error) error {
		if err == nil {
			s.others = append(s.others, r)
		}
		return err
	}
	if service {
		in := p.peer
		if d == inbound {
			in = p.pod
		}
		if err := add(play(ctx, in, "service", strconv.Itoa(appPort))); err != nil {
			return s, err
		}
	}
	if err := add(play(ctx, p.pod, append([]string{proxy, strconv.Itoa(int(port))}, onwards...)...)); err != nil {
		return s, err
	}
	to := p.destination(d)
	s.client, err = play(ctx, clientIn, "client", strconv.Itoa(int(to.Port())), to.Addr().String(), strconv.Itoa(p.sourcePort))
	return s, err
}

// turn has the client make its connections, and counts what all the processes take. What the
// kernel does with packets counts for the process that sends them.
func (s *players) turn(context.Context) (amount float64, took effort, err error) {
	before, err := s.used()
	if err != nil {
		return 0, took, err
	}
	if took.wall, err = s.client.ask(s.count); err != nil {
		return 0, took, err
	}
	after, err := s.used()
	took.cpu = after.cpu - before.cpu
	return float64(s.count), took, err
}

func (s *players) used() (all effort, err error) {
	for _, r := range append([]*role{s.client}, s.others...) {
		one, err := r.used()
		if err != nil {
			return all, err
		}
		all.cpu += one
	}
	return all, nil
}

func (s *players) Close() (err error) {
	for _, r := range append([]*role{s.client}, s.others...) {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
	}
	return err
}
