// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/conntrack"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// Connection tracking remembers connections after the last rule that needs it has gone, and
// does not see their end any more: for five days each. A later connection between the same
// ports is taken for the former one, which nat has seen to already and `ct state established`
// matches: it would go where that one went, past the proxy.

// Bounds of what one apply holds, and has the kernel forget: no pod can keep it at work by
// opening more.
const (
	forgottenAtOnce = 32_768
	maxForgetting   = 8 // times
)

// beginsTracking reports whether the wanted table needs connection tracking where the one that
// is there does not.
func beginsTracking(have, want *rules.Table) bool {
	return slices.ContainsFunc([]rules.Family{rules.IPv4, rules.IPv6}, func(f rules.Family) bool {
		return want.Tracks(f) && (have == nil || !withoutOpaque(have).Tracks(f))
	})
}

// withoutOpaque is the table without what the model does not know, and takes for all that it may
// be: another program's rule in it is no proof that connections were tracked.
func withoutOpaque(t *rules.Table) *rules.Table {
	out := &rules.Table{}
	for _, c := range t.Chains {
		chain := &rules.Chain{}
		for _, r := range c.Rules {
			chain.Rules = append(chain.Rules, rules.Rule{Nodes: slices.DeleteFunc(slices.Clone(r.Nodes), unknown)})
		}
		out.Chains = append(out.Chains, chain)
	}
	return out
}

func unknown(n rules.Node) bool {
	_, opaque := n.(rules.Opaque)
	return opaque
}

// forget is forgetEnded, without which the rules capture all the same, but for such connections.
func (w *work) forget(ctx context.Context, isOpen func(sockdiag.Socket) bool) error {
	w.open.unforgotten = w.conn.forgetEnded(ctx, isOpen, forgottenAtOnce)
	return ctx.Err()
}

// answered reports whether a connection is open and more than a SYN: that is captured when it is
// sent again, like any.
func answered(s sockdiag.Socket) bool { return s.Open() && s.State != sockdiag.SynSent }

// forgetEnded has connection tracking forget the TCP connections of which an end was here that is
// not open any more, so many at a time. What is forwarded has no end here, and stays. So does what
// is in a zone: it may be another network's, whose addresses only look like those of here (a
// tenant's, or OVN's behind the node's address).
func (c *Conn) forgetEnded(ctx context.Context, isOpen func(sockdiag.Socket) bool, atOnce int) error {
	none := false
	if err := c.nf.Inside(func() { none = conntrack.NoneHere() }); err == nil && none {
		return nil
	}
	local, err := c.localAddresses(ctx)
	if err != nil {
		return err
	}
	endsHere := func(t conntrack.Tuple) bool { return local.contain(t.Src.Addr()) }
	open := openEnds{}
	for range maxForgetting {
		var remembered []conntrack.Entry
		more := false
		err := again(ctx, func() error {
			remembered, more = nil, false
			return conntrack.TCP(ctx, c.nf, func(e conntrack.Entry) error {
				switch {
				case e.State == conntrack.TimeWait, e.Zoned, !endsHere(e.Original) && !endsHere(e.Reply), open.has(e):
				case len(remembered) == atOnce:
					more = true
				default:
					remembered = append(remembered, e)
				}
				return nil
			})
		})
		if err != nil || len(remembered) == 0 {
			return err
		}
		if open, err = c.forgetClosed(ctx, remembered, isOpen); err != nil || !more {
			return err // else those that are open leave room for others the next time
		}
	}
	return fmt.Errorf("connection tracking remembers more than %d TCP connections", maxForgetting*atOnce)
}

// openEnds are the ends of sockets that are open.
type openEnds map[sockdiag.Ends]bool

// has reports whether an end of the connection is open here.
func (o openEnds) has(e conntrack.Entry) bool {
	return o[sockdiag.Ends{Local: e.Original.Src, Remote: e.Original.Dst}] || o[sockdiag.Ends{Local: e.Reply.Src, Remote: e.Reply.Dst}]
}

// forgetClosed forgets those that have no open socket, and reports which sockets are open. What
// was opened since they were listed is not among them.
func (c *Conn) forgetClosed(ctx context.Context, remembered []conntrack.Entry, isOpen func(sockdiag.Socket) bool) (openEnds, error) {
	sockets, err := c.tcpSockets(ctx)
	if err != nil {
		return nil, err
	}
	open := openEnds{}
	for _, s := range sockets {
		if isOpen(s) {
			open[s.Ends] = true
		}
	}
	for _, e := range remembered {
		if open.has(e) {
			continue
		}
		if err := conntrack.Delete(ctx, c.nf, e); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// ownAddresses are the addresses that the namespace takes for its own. A node of Kubernetes may
// have one for each service (kube-ipvs0): none but the wider prefixes are gone through for each
// connection.
type ownAddresses struct {
	single map[netip.Addr]bool
	wider  []netip.Prefix
}

func (o ownAddresses) contain(a netip.Addr) bool {
	return o.single[a] || slices.ContainsFunc(o.wider, func(p netip.Prefix) bool { return p.Contains(a) })
}

// localAddresses lists them.
func (c *Conn) localAddresses(ctx context.Context) (ownAddresses, error) {
	out := ownAddresses{single: map[netip.Addr]bool{}}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		request := rtnetlink.RouteMessage{Family: uint8(f), Attributes: rtnetlink.RouteAttributes{Table: unix.RT_TABLE_LOCAL}}
		payload, err := request.MarshalBinary()
		if err != nil {
			return ownAddresses{}, fmt.Errorf("list routes: %w", err)
		}
		err = nl.Dump(ctx, c.route, unix.RTM_GETROUTE, payload, func(m netlink.Message) error {
			var r rtnetlink.RouteMessage
			if err := r.UnmarshalBinary(m.Data); err != nil {
				return err
			}
			if r.Family == uint8(f) && r.Type == unix.RTN_LOCAL {
				if p := routeDst(r); p.IsSingleIP() {
					out.single[p.Addr()] = true
				} else {
					out.wider = append(out.wider, p)
				}
			}
			return nil
		})
		if err != nil && !rtnl.Absent(err) {
			return ownAddresses{}, fmt.Errorf("list routes: %w", err)
		}
	}
	return out, nil
}
