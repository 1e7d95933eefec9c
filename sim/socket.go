// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// socket is the socket that a packet between the two is for: a connected one
// before one that listens on the address, before one that listens on all.
func (h *Host) socket(proto rules.Proto, remote, local netip.AddrPort) *Socket {
	var best *Socket
	rank := 0
	for i := range h.Sockets {
		s := &h.Sockets[i]
		if s.Proto != proto || s.Local.Port() != local.Port() || rules.AddressFamily(s.Local.Addr()) != rules.AddressFamily(local.Addr()) {
			continue
		}
		here := s.Local.Addr() == local.Addr()
		r := 0
		switch {
		case s.Remote == remote && here:
			r = 3
		case s.Remote.IsValid():
		case here:
			r = 2
		case s.Local.Addr().IsUnspecified():
			r = 1
		}
		if r > rank {
			best, rank = s, r
		}
	}
	return best
}

// assumed is a transparent socket that was not read.
func (h *Host) assumed(proto rules.Proto) Socket {
	s := h.Proxy
	s.Proto, s.Transparent = proto, true
	return s
}

// Socket is an open socket, and what the firewall can read of it.
type Socket struct {
	Proto       rules.Proto
	Local       netip.AddrPort // an unspecified address is every one of its family
	Remote      netip.AddrPort // not valid: it listens
	Transparent bool           // IP_TRANSPARENT
	UID         rules.UID
	GID         rules.GID
	Mark        rules.Mark       // SO_MARK
	Cgroups     []rules.CgroupID // the cgroup v2 and its ancestors, from the first level down; nil: not known
	NoGID       bool             // the group is not known
}
