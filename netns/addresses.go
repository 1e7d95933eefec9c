// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"net/netip"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/rtnl"
)

// Address is an address of an interface.
type Address struct {
	netip.Prefix
	Index int // of the interface; 1 is lo
}

// Loopback reports whether the address stands on lo.
func (a Address) Loopback() bool { return a.Index == rtnl.Loopback }

// Addresses are the namespace's addresses in the kernel's order: IPv4 first,
// then by interface.
func (n *Namespace) Addresses(ctx context.Context) ([]Address, error) {
	var out []Address
	err := n.withRoute(ctx, func(s *nl.Socket) error {
		all, err := rtnl.Addresses(ctx, s, 0)
		out = make([]Address, len(all))
		for i, a := range all {
			out[i] = Address{a.Prefix, a.Index}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// HasIPv6 reports whether one of the addresses can be reached by IPv6 from elsewhere:
// it is neither link-local nor on lo.
func HasIPv6(addresses []Address) bool {
	for _, a := range addresses {
		if !a.Loopback() && a.Addr().Is6() && !a.Addr().IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}
