// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

const (
	captureRounds = 15
	captureBar    = 1.10 // of REDIRECT's rate, that of capture without conntrack
	bulkBar       = 0.95
	answeredTurns = 2

	proxyMark         = 0x53d
	appPort           = 8080
	congestionControl = "net/ipv4/tcp_congestion_control"
	nearLink          = "eth0"          // of the pod, and of its peer
	peerClients       = "198.19.1.0/24" // other pods of the peer's, which call this one
)

var (
	podAddress  = netip.MustParsePrefix("198.18.1.1/24")
	peerAddress = netip.MustParsePrefix("198.18.1.2/24")
)

// The ways of capture. Nothing captured is what the others are beside: the client calls the
// proxy itself.
const (
	wayNone     = "nothing captured"
	wayRedirect = "REDIRECT"
	wayTProxy   = "TPROXY inbound"
	wayLean     = "conntrack: none, lean"
	wayFuller   = "conntrack: none, fuller"
)

// captured are the configurations. One proxy serves them all, so all tell it by its mark.
var captured = []struct{ name, document string }{
	{wayNone, ""},
	{wayRedirect, "mode: sidecar\nproxy: {mark: 0x53d/0xfff}\ninbound: {excludePorts: [15020, 15021, 15090]}\n"},
	{wayTProxy, "mode: sidecar\nproxy: {mark: 0x53d/0xfff}\ninbound: {via: tproxy, excludePorts: [15020, 15021, 15090]}\n"},
	{wayLean, `mode: sidecar
proxy: {mark: 0x53d/0xfff}
inbound: {via: tproxy, excludePorts: [15020, 15021, 15090]}
outbound: {via: tproxy}
conntrack: none
`},
	{wayFuller, `mode: sidecar
proxy: {mark: 0x53d/0xfff, uids: [1337], gids: [1337]}
inbound: {via: tproxy, excludePorts: [15020, 15021, 15090]}
outbound: {via: tproxy, excludePorts: [25], excludeCIDRs: [10.0.0.0/8, "fd00::/8"]}
interfaces: {exclude: [eth1]}
conntrack: none
`},
}

// A direction is of what is captured: what the pod's application sends, or what its peer
// sends to it.
type direction string

const (
	outbound direction = "outbound"
	inbound  direction = "inbound"
)

var directions = []direction{outbound, inbound}

// A pod is a namespace whose traffic is captured one way, and its peer.
type pod struct {
	way        string
	pod, peer  *scratch.Namespace
	sourcePort int // of the next connection
}

func (p *pod) Close() error { return errors.Join(p.pod.Close(), p.peer.Close()) }

// pods makes a pod for each way of capture.
func (b *bench) pods(ctx context.Context) (pods []*pod, err error) {
	for i, c := range captured {
		p := &pod{way: c.name, sourcePort: firstSourcePort}
		if p.pod, err = scratch.NewNamespace(); err != nil {
			return pods, err
		}
		if p.peer, err = scratch.NewNamespace(); err != nil {
			return pods, errors.Join(err, p.pod.Close())
		}
		pods = append(pods, p)
		if err := p.connect(); err != nil {
			return pods, fmt.Errorf("%s: %w", c.name, err)
		}
		if c.document == "" {
			continue
		}
		config, err := b.write(fmt.Sprintf("capture-%d.yaml", i), c.document)
		if err != nil {
			return pods, err
		}
		if _, err := runIn(ctx, p.pod, command{Args: []string{b.weir, "apply", "--config", config}}); err != nil {
			return pods, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return pods, nil
}

// connect gives the pod its peer, by which it reaches the rest of the world.
func (p *pod) connect() error {
	far := scratch.Route{Dst: netip.MustParsePrefix(farPrefix), Link: nearLink, Via: peerAddress.Addr()}
	clients := netip.MustParsePrefix(peerClients)
	if p.way == wayNone { // where the pod answers itself
		far = scratch.Route{Dst: far.Dst, Local: true, Table: unix.RT_TABLE_LOCAL}
	}
	return errors.Join(
		scratch.Veth(p.pod, nearLink, p.peer, nearLink),
		p.pod.AddAddress(nearLink, podAddress), p.peer.AddAddress(nearLink, peerAddress),
		p.pod.Up(nearLink), p.peer.Up(nearLink),
		// the default may be one that paces, by timers
		p.pod.Sysctl(congestionControl, "reno"), p.peer.Sysctl(congestionControl, "reno"),
		p.peer.AddRoute(scratch.Route{Dst: clients, Local: true, Table: unix.RT_TABLE_LOCAL}),
		p.pod.AddRoute(scratch.Route{Dst: clients, Link: nearLink, Via: peerAddress.Addr()}),
		p.peer.AddRoute(scratch.Route{Dst: netip.MustParsePrefix(farPrefix), Local: true, Table: unix.RT_TABLE_LOCAL}),
		p.pod.AddRoute(far))
}

// client is where the client of a direction is, and listener the port that its connections
// are captured to.
func (p *pod) client(d direction) (ns *scratch.Namespace, listener uint16) {
	if d == inbound {
		return p.peer, inboundPort
	}
	return p.pod, outboundPort
}

// destination is where the connections of a direction go.
func (p *pod) destination(d direction) netip.AddrPort {
	_, port := p.client(d)
	if p.way != wayNone {
		port = appPort
	}
	if d == inbound {
		return netip.AddrPortFrom(podAddress.Addr(), port)
	}
	return netip.AddrPortFrom(netip.MustParsePrefix(farPrefix).Addr().Next(), port)
}

// A turner does a turn's work, and tells how much that was, in the unit of the measure, and
// what it took.
type turner interface {
	turn(context.Context) (amount float64, took effort, err error)
	Close() error
}

// An effort is the time on the clock and that of processors.
type effort struct{ wall, cpu time.Duration }

// A captureMeasure is one thing that is measured of each way of capture.
type captureMeasure struct {
	name  string
	unit  string  // of what a turn does
	bar   float64 // of capture without conntrack beside REDIRECT
	turns int     // of a way in a round
	warm  int     // rounds that do not count
	start func(context.Context, *pod, direction) (turner, error)
}

var captureMeasures = []captureMeasure{
	{"connections, both ends by one thread", "connections", captureBar, 6, 1, capturedAlone},
	{"connections, answered by the proxy", "connections", captureBar, answeredTurns, 1, answered},
	{"connections, relayed by the proxy", "connections", 0, 1, 1, relayed},
	{"connections at a rate that lasts", "connections", captureBar, 1, sustainedWarm, sustained},
	{"bulk", "Gbit", bulkBar, 4, 1, capturedBulk},
}

// interception measures what each way of capture costs a connection, and what bulk data.
func (b *bench) interception(ctx context.Context) error {
	progress("ways of capture")
	for _, d := range directions {
		if err := b.withPods(ctx, func(pods []*pod) error { return b.held(ctx, pods, d) }); err != nil {
			return err
		}
	}
	for _, m := range captureMeasures {
		for _, d := range directions {
			if err := b.withPods(ctx, func(pods []*pod) error { return b.alternateWays(ctx, pods, m, d) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// withPods makes the pods, which remember no former connection, and removes them.
func (b *bench) withPods(ctx context.Context, do func([]*pod) error) error {
	pods, err := b.pods(ctx)
	if err == nil {
		err = do(pods)
	}
	for _, p := range pods {
		err = errors.Join(err, p.Close())
	}
	return err
}
