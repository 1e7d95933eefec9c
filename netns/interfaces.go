// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/sim"
)

// Interfaces are a namespace's interfaces and addresses, each read once.
type Interfaces struct {
	Links     []sim.Link // with their addresses
	Addresses []Address  // of all, in the kernel's order: IPv4 first, then by interface
	Loopback  Loopback
}

// Interfaces reads the namespace's interfaces and addresses, by netlink: there may be no /proc.
func (n *Namespace) Interfaces(ctx context.Context) (out Interfaces, err error) {
	err = n.withRoute(ctx, func(s *nl.Socket) error {
		out, err = interfaces(ctx, s)
		return err
	})
	return out, err
}

func interfaces(ctx context.Context, s *nl.Socket) (out Interfaces, err error) {
	if out.Links, out.Loopback, err = links(ctx, s); err != nil {
		return out, err
	}
	all, err := rtnl.Addresses(ctx, s, 0)
	for _, a := range all {
		out.Addresses = append(out.Addresses, Address{a.Prefix, a.Index})
		for i := range out.Links {
			if int(out.Links[i].Index) == a.Index {
				out.Links[i].Addresses = append(out.Links[i].Addresses, a.Prefix)
			}
		}
	}
	return out, err
}
