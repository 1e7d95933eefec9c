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

// peer is a destination of a TCP connection, and the address that called it.
type peer struct {
	remote netip.AddrPort
	local  netip.Addr
}

// seed tells the table of the connections that are older than it.
func seed(ctx context.Context, ns *netns.Namespace, table string) error {
	called, err := calledBy(ctx, ns)
	if err != nil {
		return err
	}
	conn, err := ns.Nft()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ChangeLive(ctx, table, func(t *rules.Table) ([]rules.SetChange, error) { return peerChanges(t, called), nil })
	return err
}

// calledBy are the connections that were opened in the namespace: those that are open and whose
// local port nothing listens on.
func calledBy(ctx context.Context, ns *netns.Namespace) ([]peer, error) {
	sockets, err := nl.Open(ns.FD(), unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer func() { _ = nl.Close(sockets...) }()
	all, err := sockdiag.TCP(ctx, sockets[0])
	if err != nil {
		return nil, err
	}
	return opened(all), nil
}

func opened(all []sockdiag.Socket) (out []peer) {
	listening := map[uint16]bool{}
	for _, s := range all {
		if s.State == sockdiag.Listen {
			listening[s.Local.Port()] = true
		}
	}
	for _, s := range all {
		if s.Open() && !listening[s.Local.Port()] && !s.Remote.Addr().IsLoopback() && s.Remote.Port() != 0 {
			out = append(out, peer{s.Remote, s.Local.Addr()})
		}
	}
	return out
}

// peerChanges are what the sets of peers lack.
func peerChanges(t *rules.Table, called []peer) (changes []rules.SetChange) {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if s := t.Set(f.SetName(modes.EgressPeers)); s != nil {
			changes = append(changes, rules.SetChange{Set: s, Add: missing(s, called, f)})
		}
	}
	return changes
}

// missing are the elements that a set of peers lacks, as many as it has room for. Where it has
// who called, that is part of them.
func missing(s *rules.Set, called []peer, f rules.Family) (add []rules.Element) {
	const withOwner = 4 // parts of a key
	has := map[string]bool{}
	for i := range s.Elements {
		has[keyOf(s.Elements[i].Key)] = true
	}
	room := int(s.Size) - len(s.Elements)
	for _, p := range called {
		a := p.remote.Addr()
		if rules.AddressFamily(a) != f || len(add) >= room {
			continue
		}
		key := []rules.Range{addressRange(a), rules.RangeOf(rules.TCP), rules.RangeOf(rules.Port(p.remote.Port()))}
		if len(s.Key) == withOwner {
			key = append(key, addressRange(p.local))
		}
		if id := keyOf(key); !has[id] {
			has[id] = true
			add = append(add, rules.Element{Key: key})
		}
	}
	return add
}

func addressRange(a netip.Addr) rules.Range { return rules.RangeOf(netip.PrefixFrom(a, a.BitLen())) }

func keyOf(key []rules.Range) (id string) {
	for _, r := range key {
		id += string(r.Lo)
	}
	return id
}
