// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"net/netip"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// Sockets lists the namespace's TCP and UDP sockets, over sock_diag(7). Which group and
// which cgroups opened them it does not tell.
func (n *Namespace) Sockets(ctx context.Context) ([]sim.Socket, error) {
	return n.sockets(ctx, sockdiag.AnyState, sockdiag.AnyState)
}

// Listeners lists, as [Namespace.Sockets] does, those that wait for what is sent to a port:
// TCP's that listen, and UDP's that are not connected. It does not walk through the
// machine's connections.
func (n *Namespace) Listeners(ctx context.Context) ([]sim.Socket, error) {
	return n.sockets(ctx, sockdiag.Listening, sockdiag.Unconnected)
}

func (n *Namespace) sockets(ctx context.Context, tcp, udp sockdiag.States) ([]sim.Socket, error) {
	diag, err := n.openNetlink(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer nl.Close(diag)
	var out []sim.Socket
	err = readAgain(ctx, func() error {
		out = nil
		for _, kind := range []struct {
			proto  rules.Proto
			states sockdiag.States
		}{{rules.TCP, tcp}, {rules.UDP, udp}} {
			for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
				all, err := sockdiag.Of(ctx, diag, byte(f), byte(kind.proto), kind.states)
				if err != nil {
					return err
				}
				for _, s := range all {
					out = append(out, socketsOf(kind.proto, s)...)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// socketsOf is the socket as rules know it; one of IPv6 that takes IPv4 too is two.
func socketsOf(proto rules.Proto, of sockdiag.Socket) []sim.Socket {
	s := sim.Socket{Proto: proto, Local: of.Local, UID: rules.UID(of.UID), Mark: rules.Mark(of.Mark), Transparent: of.Transparent, NoGID: true}
	if of.Remote.Port() != 0 {
		s.Remote = of.Remote
	}
	if s.Remote.IsValid() || s.Local.Addr() != netip.IPv6Unspecified() || of.OnlyIPv6 {
		return []sim.Socket{s}
	}
	both := s
	both.Local = netip.AddrPortFrom(netip.IPv4Unspecified(), s.Local.Port())
	return []sim.Socket{s, both}
}
