// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"net/netip"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// seed tells the table of the connections that are older than it: those that are open and
// whose local port nothing listens on were opened here. With by: pod there are none here.
func seed(ctx context.Context, ns *netns.Namespace, table string) error {
	sockets, err := nl.Open(ns.FD(), unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer func() { _ = nl.Close(sockets...) }()
	all, err := sockdiag.TCP(ctx, sockets[0])
	if err != nil {
		return err
	}
	conn, err := ns.Nft()
	if err != nil {
		return err
	}
	defer conn.Close()
	called := opened(all)
	_, err = conn.ChangeLive(ctx, table, func(t *rules.Table) ([]rules.SetChange, error) {
		var changes []rules.SetChange
		for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
			if s := t.Set(f.SetName(modes.EgressPeers)); s != nil && len(s.Key) == 3 {
				changes = append(changes, rules.SetChange{Set: s, Add: missing(s, called, f)})
			}
		}
		return changes, nil
	})
	return err
}

// opened are the remote ends of connections that were opened here.
func opened(all []sockdiag.Socket) (out []netip.AddrPort) {
	listening := map[uint16]bool{}
	for _, s := range all {
		if s.State == sockdiag.Listen {
			listening[s.Local.Port()] = true
		}
	}
	for _, s := range all {
		if s.Open() && !listening[s.Local.Port()] && !s.Remote.Addr().IsLoopback() && s.Remote.Port() != 0 {
			out = append(out, s.Remote)
		}
	}
	return out
}

// missing are the elements that a set of peers lacks, as many as it has room for.
func missing(s *rules.Set, called []netip.AddrPort, f rules.Family) (add []rules.Element) {
	has := map[netip.AddrPort]bool{}
	for i := range s.Elements {
		if d := destinationOf(s.Key, &s.Elements[i]); d.Proto == rules.TCP {
			has[d.Addr] = true
		}
	}
	room := int(s.Size) - len(s.Elements)
	for _, a := range called {
		if has[a] || rules.AddressFamily(a.Addr()) != f || len(add) >= room {
			continue
		}
		has[a] = true
		add = append(add, rules.Element{Key: []rules.Range{
			rules.RangeOf(netip.PrefixFrom(a.Addr(), a.Addr().BitLen())), rules.RangeOf(rules.TCP), rules.RangeOf(rules.Port(a.Port()))}})
	}
	return add
}
