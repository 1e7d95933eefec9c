// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

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
