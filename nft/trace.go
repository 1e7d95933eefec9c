// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"unsafe"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// TraceOptions say which packets to trace.
type TraceOptions struct {
	Hooks []rules.Hook // where packets are looked at: prerouting, output
	Match []rules.Node // what they must be, before any other rule sees them
	Rate  uint32       // packets a second that are traced of them, at most
}

// Trace is the kernel telling which rules packets meet. It works with a table of
// its own, which goes when the trace is closed and, where the kernel knows
// tables with owners (Linux 5.12), with the program however it ends.
type Trace struct {
	conn   *Conn
	events *netlink.Conn
	table  string
}

// traceBuffer is room for what the kernel tells while the trace does not read.
const traceBuffer = 8 << 20

// StartTrace begins a trace in the calling thread's network namespace, or in the
// one that the file descriptor netns names.
func StartTrace(ctx context.Context, netns int, o TraceOptions) (_ *Trace, err error) {
	t := &Trace{}
	if t.conn, err = Open(netns); err != nil {
		return nil, err
	}
	if t.events, err = listenTrace(netns); err != nil {
		return nil, errors.Join(err, t.conn.Close())
	}
	t.table = fmt.Sprintf("%s%08x", reserved.TracePrefix, t.events.PID())
	if err := (rules.State{Table: o.table(t.table, rules.Counter{})}).Check(); err != nil {
		return nil, errors.Join(err, t.closeSockets())
	}
	if err := t.create(ctx, o.table(t.table, rules.Counter{}, limitNode(o.Rate), traceNode(), rules.Counter{})); err != nil {
		return nil, errors.Join(fmt.Errorf("trace: %w", err), t.closeSockets())
	}
	return t, nil
}

// listenTrace opens a socket on a port that no other ever had, as good as
// certainly: its name in a table then tells who works with it.
func listenTrace(netns int) (*netlink.Conn, error) {
	const attempts = 8
	for i := 0; ; i++ {
		c, err := dialPort(rand.Uint32()|1<<31, netns) // process numbers, which the kernel prefers, are below
		if errors.Is(err, unix.EADDRINUSE) && i < attempts {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = c.JoinGroup(unix.NFNLGRP_NFTRACE)
		if err == nil {
			err = c.SetReadBuffer(traceBuffer)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen to traces: %w", nl.Permission(err)), c.Close())
		}
		return c, nil
	}
}

func dialPort(port uint32, netns int) (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns, PID: port})
	if err != nil {
		return nil, fmt.Errorf("netlink: open a socket: %w", nl.Permission(err))
	}
	return c, nil
}

// table has a chain before all others of each hook, in which the nodes follow the
// match. Those of a trace count the packets that match and those that are traced.
func (o TraceOptions) table(name string, then ...rules.Node) *rules.Table {
	t := &rules.Table{Name: name}
	nodes := slices.Concat(o.Match, then)
	for _, h := range o.Hooks {
		c := &rules.Chain{Name: traceChain(h), Base: &rules.Base{Type: rules.FilterType, Hook: h, Priority: math.MinInt32}}
		c.Rules = t.Expand(rules.Rule{Nodes: nodes}, rules.IPv4, rules.IPv6)
		t.Chains = append(t.Chains, c)
	}
	return t
}

// create makes the table, with an owner where the kernel knows such.
func (t *Trace) create(ctx context.Context, table *rules.Table) error {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	add := func(flags uint32) error {
		b := &batch{}
		l := lower(b, table)
		l.add(newTable(l, flags, netlink.Create|netlink.Excl))
		l.addAll(table, nil)
		return t.conn.commit(ctx, b, 0)
	}
	err := add(tableOwner)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		err = add(0)
	}
	return err
}

func (t *Trace) closeSockets() error { return errors.Join(t.events.Close(), t.conn.Close()) }

// Close ends the trace and takes its table away.
func (t *Trace) Close() error {
	b := &batch{}
	lower(b, &rules.Table{Name: t.table}).deleteTable()
	return errors.Join(t.conn.commit(context.Background(), b, 0), t.closeSockets())
}

// Counts are how many packets matched so far, and how many of them are traced.
func (t *Trace) Counts(ctx context.Context) (matched, traced uint64, err error) {
	var table *rules.Table
	err = again(ctx, func() (err error) {
		table, err = t.conn.tableAlone(ctx, t.table, everything())
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	for _, c := range table.Chains {
		for _, r := range c.Rules {
			counters := counters(r)
			if len(counters) == 2 {
				matched, traced = matched+counters[0].Packets, traced+counters[1].Packets
			}
		}
	}
	return matched, traced, nil
}

func counters(r rules.Rule) (out []rules.Counter) {
	for _, n := range r.Nodes {
		if c, ok := n.(rules.Counter); ok {
			out = append(out, c)
		}
	}
	return out
}

// Lost is how many notifications found no room, since the start.
func (t *Trace) Lost() (uint32, error) {
	const drops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	raw, err := t.events.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info [drops + 1]uint32
	buffer := unsafe.Slice((*byte)(unsafe.Pointer(&info[0])), len(info)*4)
	var failed error
	err = raw.Control(func(fd uintptr) { failed = nl.Getsockopt(int(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, buffer) })
	return info[drops], errors.Join(err, failed)
}

func traceChain(h rules.Hook) string { return "trace-" + h.String() }
