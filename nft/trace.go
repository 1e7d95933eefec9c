//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/escape"
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

// traceBuffer is room for what the kernel tells while nobody reads.
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
// match. Those of a trace count what matches and what of it is traced.
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
		table, err = t.conn.tableAlone(ctx, t.table)
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

// TraceKind is what a notification is about.
type TraceKind uint32

// Kinds of notification, as NFT_TRACETYPE_* of linux/netfilter/nf_tables.h.
const (
	TracePolicy TraceKind = 1 // no rule of the base chain decided: its policy does
	TraceReturn TraceKind = 2 // back to the chain that jumped here
	TraceRule   TraceKind = 3 // a rule matched; with no handle, the chain's end
)

// TraceEvent is one notification: what a packet met in a chain.
type TraceEvent struct {
	ID      uint32 // of the packet on its way between two queues; used again for later ones
	Own     bool   // of the trace's own chain, the first that the packet meets
	Other   bool   // of another trace's chain
	Kind    TraceKind
	Family  string // of the table
	Table   string
	Chain   string
	Handle  uint64 // of the rule
	Verdict rules.Verdict
	Drop    bool // by the policy
	Mark    uint32
	IIf     uint32 // interface indices, 0 for none
	OIf     uint32
	Packet  PacketHeader
}

// Receive waits for notifications until the time, and returns none then. Those
// that were lost meanwhile are for Lost to tell.
func (t *Trace) Receive(until time.Time) ([]TraceEvent, error) {
	if err := t.events.SetReadDeadline(until); err != nil {
		return nil, err
	}
	msgs, err := t.events.Receive()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ENOBUFS):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("trace: %w", err)
	}
	var out []TraceEvent
	for _, m := range msgs {
		if m.Header.Type != nfType(unix.NFT_MSG_TRACE) {
			continue
		}
		a, err := payload(m)
		if err != nil {
			return nil, err
		}
		out = append(out, t.event(m.Data[0], a))
	}
	return out, nil
}

func (t *Trace) event(family uint8, a nl.Attributes) TraceEvent {
	e := TraceEvent{
		ID:     uint32(a.Number(unix.NFTA_TRACE_ID)),
		Kind:   TraceKind(a.Number(unix.NFTA_TRACE_TYPE)),
		Family: familyName(family),
		Table:  a.Text(unix.NFTA_TRACE_TABLE),
		Chain:  a.Text(unix.NFTA_TRACE_CHAIN),
		Handle: a.Number(unix.NFTA_TRACE_RULE_HANDLE),
		Mark:   uint32(a.Number(unix.NFTA_TRACE_MARK)),
		IIf:    uint32(a.Number(unix.NFTA_TRACE_IIF)),
		OIf:    uint32(a.Number(unix.NFTA_TRACE_OIF)),
		Packet: packetHeader(a.Number(unix.NFTA_TRACE_NFPROTO), a.Take(unix.NFTA_TRACE_NETWORK_HEADER), a.Take(unix.NFTA_TRACE_TRANSPORT_HEADER)),
	}
	e.Own = e.Family == "inet" && e.Table == t.table
	e.Other = e.Family == "inet" && !e.Own && strings.HasPrefix(e.Table, reserved.TracePrefix)
	if v := a.Take(unix.NFTA_TRACE_VERDICT); v != nil {
		e.Verdict = traceVerdict(v)
	}
	e.Drop = a.Has(unix.NFTA_TRACE_POLICY) && a.Number(unix.NFTA_TRACE_POLICY) == 0
	return e
}

// traceVerdict is a verdict as notifications hold it: without the layer around.
func traceVerdict(data []byte) rules.Verdict {
	v, _ := liftVerdict(attribute{typ: unix.NLA_F_NESTED | unix.NFTA_DATA_VERDICT, data: data}.appendTo(nil))
	return v
}

// SweepTraces takes away the tables of traces that were killed, where the kernel
// did not: before Linux 5.12. It returns their names. A table that only has such a
// name stays.
func (c *Conn) SweepTraces(ctx context.Context, netns int) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	flags, err := c.tableFlags(ctx, unix.NFPROTO_INET)
	if errors.Is(err, errGeneration) {
		return nil, nil // somebody changes tables at this moment: the next command sees to it
	}
	if err != nil {
		return nil, err
	}
	var swept []string
	for key, f := range flags {
		port, isTrace := strings.CutPrefix(key.name, reserved.TracePrefix)
		number, err := strconv.ParseUint(port, 16, 32)
		if !isTrace || err != nil || f&tableOwner != 0 || portTaken(uint32(number), netns) {
			continue
		}
		if table, err := c.tableAlone(ctx, key.name); err != nil || !ofTrace(table) {
			continue
		}
		b := &batch{}
		lower(b, &rules.Table{Name: key.name}).deleteTable()
		if err := c.commit(ctx, b, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return swept, fmt.Errorf("take table inet %s of a killed trace away: %w", escape.Text(key.name), err)
		}
		swept = append(swept, key.name)
	}
	slices.Sort(swept)
	return swept, nil
}

// ofTrace reports whether a table has the shape of a trace's.
func ofTrace(t *rules.Table) bool {
	return t != nil && len(t.Sets)+len(t.Unsupported()) == 0 && len(t.Chains) > 0 && !slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		return c.Base == nil || c.Base.Priority != math.MinInt32 || c.Name != traceChain(c.Base.Hook)
	})
}

func traceChain(h rules.Hook) string { return "trace-" + h.String() }

// portTaken reports whether somebody has the netlink port.
func portTaken(port uint32, netns int) bool {
	c, err := dialPort(port, netns)
	if err == nil {
		c.Close()
	}
	return err != nil
}
