// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Pod is a network namespace of a node of which what is forwarded is counted.
type Pod struct {
	Name      string       // what its rows have as their owner
	Netns     string       // a path at which it can be opened
	Inode     uint64       // its number
	Addresses []netip.Addr // nil: read there
}

// pods are those of a node: their addresses stand in the table, and their sockets tell what
// connections moved.
type pods struct {
	find  func(context.Context) ([]Pod, error)
	conn  *nft.Conn
	table string
	node  uint64 // the node's own namespace
	here  map[uint64]*pod
	names map[netip.Addr]string
	Wrong []string // why some are not counted
}

type pod struct {
	Pod
	sockets *sockets
	gone    bool
}

const maxPods = 4096

func openPods(ns *netns.Namespace, table string, find func(context.Context) ([]Pod, error)) (*pods, error) {
	inode, err := ns.Inode()
	if err != nil {
		return nil, err
	}
	conn, err := ns.Nft()
	if err != nil {
		return nil, err
	}
	return &pods{find: find, conn: conn, table: table, node: inode, here: map[uint64]*pod{}, names: map[netip.Addr]string{}}, nil
}

func (p *pods) close() error {
	p.conn.Close()
	var wrong []error
	for _, one := range p.here {
		wrong = append(wrong, one.sockets.close())
	}
	return errors.Join(wrong...)
}

// refresh takes in what was found: pods that came and went. Those that went are closed by the next
// one, once what their sockets told at the end is read.
func (p *pods) refresh(ctx context.Context, found []Pod, err error) error {
	p.Wrong = nil
	if err != nil {
		p.Wrong = append(p.Wrong, err.Error())
		if len(found) == 0 {
			return nil // what was known holds
		}
	}
	there := map[uint64]bool{}
	var called []peer
	before := len(p.here)
	for _, one := range found {
		there[one.Inode] = true
		if p.here[one.Inode] != nil || one.Inode == p.node {
			continue
		}
		if len(p.here) >= maxPods {
			p.Wrong = append(p.Wrong, fmt.Sprintf("more than %d pods", maxPods))
			break
		}
		open, err := p.open(ctx, one)
		if err != nil {
			p.Wrong = append(p.Wrong, fmt.Sprintf("%s: %v", one.Name, err))
			continue
		}
		called = append(called, open...)
	}
	changed := len(p.here) != before
	for inode, one := range p.here {
		switch {
		case there[inode]:
			one.gone = false
		case one.gone:
			changed = true
			delete(p.here, inode)
			if err := one.sockets.close(); err != nil {
				return err
			}
		default:
			one.gone, changed = true, true
		}
	}
	if !changed {
		return nil
	}
	return p.write(ctx, called)
}

// open begins to hear a pod's sockets, and returns what it called so far.
func (p *pods) open(ctx context.Context, one Pod) ([]peer, error) {
	ns, err := netns.Open(one.Netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if now, err := ns.Inode(); err != nil || now != one.Inode {
		return nil, errors.Join(errors.New("another network namespace is there by now"), err)
	}
	if one.Addresses == nil {
		all, err := ns.Addresses(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if !a.Loopback() && !a.Addr().IsLinkLocalUnicast() {
				one.Addresses = append(one.Addresses, a.Addr().Unmap())
			}
		}
	}
	called, err := calledBy(ctx, ns)
	if err != nil {
		return nil, err
	}
	s, err := openSockets(ctx, ns)
	if err != nil {
		return nil, err
	}
	s.addresses = map[netip.Addr]bool{}
	for _, a := range one.Addresses {
		s.addresses[a] = true
		p.names[a] = one.Name
	}
	p.here[one.Inode] = &pod{Pod: one, sockets: s}
	return called, nil
}

// write has the table hold the addresses of the pods that are there, and what was called before.
func (p *pods) write(ctx context.Context, called []peer) error {
	want := map[netip.Addr]bool{}
	for _, one := range p.here {
		for _, a := range one.Addresses {
			want[a] = want[a] || !one.gone
		}
	}
	for a := range p.names {
		if _, known := want[a]; !known {
			delete(p.names, a)
		}
	}
	_, err := p.conn.ChangeLive(ctx, p.table, func(t *rules.Table) ([]rules.SetChange, error) {
		return append(addressChanges(t, want), peerChanges(t, called)...), nil
	})
	return err
}

// addressChanges are what the sets of pods lack and hold too much.
func addressChanges(t *rules.Table, want map[netip.Addr]bool) (changes []rules.SetChange) {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		s := t.Set(f.SetName(modes.EgressPods))
		if s == nil {
			continue
		}
		change := rules.SetChange{Set: s}
		has := map[netip.Addr]bool{}
		for _, e := range s.Elements {
			a, _ := netip.AddrFromSlice([]byte(e.Key[0].Lo))
			has[a] = true
			if !want[a] {
				change.Delete = append(change.Delete, e)
			}
		}
		room := int(s.Size) - len(s.Elements)
		for a, here := range want {
			if here && !has[a] && rules.AddressFamily(a) == f && len(change.Add) < room {
				change.Add = append(change.Add, rules.Element{Key: []rules.Range{addressRange(a)}})
			}
		}
		changes = append(changes, change)
	}
	return changes
}

// sockets are those of every pod.
func (p *pods) sockets() (out []*sockets) {
	for _, one := range p.here {
		out = append(out, one.sockets)
	}
	return out
}

// name is the pod that has the address, or the address.
func (p *pods) name(owner string) string {
	if a, err := netip.ParseAddr(owner); err == nil && p.names[a] != "" {
		return p.names[a]
	}
	return owner
}
