// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trace

import (
	"context"
	"net/netip"

	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// owner is the user that opened the socket of a packet that the namespace sends, nil where
// there is no such socket, or no more: the kernel does not tell it of the packet itself.
func owner(ctx context.Context, target *netns.Namespace, p *Packet) *uint32 {
	source, err := netip.ParseAddrPort(p.Source)
	if err != nil || p.In != "" && p.In != "lo" {
		return nil
	}
	destination, err := netip.ParseAddrPort(p.Destination)
	if err != nil {
		return nil
	}
	sockets, err := target.Sockets(ctx)
	if err != nil {
		return nil
	}
	for _, s := range sockets {
		local := s.Local == source || s.Local.Addr().IsUnspecified() && s.Local.Port() == source.Port() && !s.Remote.IsValid()
		if rules.L4Proto.Type().Format(rules.RangeOf(s.Proto).Lo) == p.Protocol && local && (!s.Remote.IsValid() || s.Remote == destination) {
			uid := uint32(s.UID)
			return &uid
		}
	}
	return nil
}
