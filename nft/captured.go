// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/rules"
)

// Captured counts the connections that a table takes to a proxy. They end with the
// table.
type Captured struct {
	Redirected int   // by nat
	Proxied    int   // by TPROXY, addresses unchanged
	Uncounted  error // why there may be more; nil: there are none
	cookies    map[uint64]bool
}

// Any reports whether connections are captured, as far as can be told.
func (c Captured) Any() bool { return c.Redirected+c.Proxied > 0 || c.Uncounted != nil }

// String is such as "3 redirected connections and 1 connection by TPROXY", "" where
// there are none.
func (c Captured) String() string {
	var words []string
	if c.Redirected > 0 {
		words = append(words, term.Count(c.Redirected, "redirected connection"))
	}
	if c.Proxied > 0 {
		words = append(words, term.Count(c.Proxied, "connection")+" by TPROXY")
	}
	if c.Uncounted != nil {
		words = append(words, fmt.Sprintf("an unknown number of connections (%v)", c.Uncounted))
	}
	return strings.Join(words, " and ")
}

var errUncounted = errors.New("connections by TPROXY cannot be told from others on this kernel (INET_DIAG_SOCKOPT, Linux 5.11)")

// Captured counts the connections that a remove would reset.
func (s *Session) Captured(ctx context.Context) (Captured, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.conn.noTCP() {
		return Captured{}, nil
	}
	if err := s.refreshWith(ctx, rules.State{}, withoutElements()); err != nil {
		return Captured{}, err
	}
	return s.conn.captured(ctx, s.live.State.Table)
}

// captured counts the connections that a table captured. Its sets may be without
// their elements.
func (c *Conn) captured(ctx context.Context, table *rules.Table) (Captured, error) {
	t := targetsOf(table)
	if !t.any() {
		return Captured{}, nil
	}
	sockets, err := c.tcpSockets(ctx)
	if err != nil && ctx.Err() == nil {
		return Captured{Uncounted: err}, nil
	}
	if err != nil {
		return Captured{}, err
	}
	if !t.tproxy {
		return t.count(sockets, nil), nil
	}
	addresses, err := rtnl.Addresses(ctx, c.route, 0)
	if err != nil {
		return Captured{}, err
	}
	own := map[netip.Addr]bool{}
	for _, a := range addresses {
		own[a.Addr()] = true
	}
	return t.count(sockets, own), nil
}

// targets are where a table takes packets to.
type targets struct {
	ports  []rules.Range // of redirects
	tproxy bool
}

func targetsOf(t *rules.Table) (out targets) {
	for _, n := range t.Captures() {
		switch n := n.(type) {
		case rules.Redirect:
			if n.Ports != nil {
				out.ports = append(out.ports, *n.Ports)
			}
		case rules.TProxy:
			out.tproxy = true
		}
	}
	return out
}

func (t targets) any() bool { return len(t.ports) > 0 || t.tproxy }

func (t targets) takes(port uint16) bool {
	p := rules.RangeOf(rules.Port(port)).Lo
	return slices.ContainsFunc(t.ports, func(r rules.Range) bool { return r.Lo <= p && p <= r.Hi })
}

// count looks at the proxy's ends. Both ends of a connection that was made directly
// to its listener name the same addresses, where the other end is here too.
func (t targets) count(sockets []sockdiag.Socket, own map[netip.Addr]bool) Captured {
	c := Captured{cookies: map[uint64]bool{}}
	here := takenHere(sockets)
	for _, s := range sockets {
		if !s.Open() {
			continue
		}
		mirrored := here.mirrored[s.Turned()]
		switch {
		case t.takes(s.Local.Port()) && !mirrored:
			c.Redirected++
		case t.tproxy && s.State != sockdiag.SynRecv && !s.Options: // a half-open connection has no options to report
			c.Uncounted = errUncounted
			continue
		case t.tproxy && s.Transparent && own[s.Local.Addr()] && (!mirrored || here.listening[s.Local.Port()]):
			c.Proxied++ // not what the proxy opened in the client's name
		default:
			continue
		}
		c.cookies[s.Cookie] = true
	}
	return c
}
