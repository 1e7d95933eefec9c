// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"context"
	"net/netip"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/netns"
)

// Resolve is the configuration that the arguments mean in a namespace, and what is known of the
// namespace. The error is an [ArgumentError], or says what could not be read.
func (a *Arguments) Resolve(ctx context.Context, ns *netns.Namespace) (meshinit.Resolved, error) {
	return meshinit.Meaning{Users: a.proxyUID == "", Config: a.Config, HasIPv6: a.HasIPv6, AllDNS: "capture-all-dns"}.Resolve(ctx, ns)
}

// ArgumentError is that arguments do not parse, or mean nothing; it joins all that is wrong with them.
type ArgumentError = meshinit.ArgumentError

// passthroughIPv6 is the address that a run adds to lo.
var passthroughIPv6 = netip.MustParseAddr("::6")

// HasIPv6 decides as the reference does whether a namespace with those addresses has IPv6, and depends
// on their order as it does: the first one that is neither loopback nor link-local decides, or with
// dual stack any IPv6 one. What an earlier run added to lo is not a sign of IPv6.
func (a *Arguments) HasIPv6(addresses []netns.Address) bool {
	for _, at := range addresses {
		if at.Addr().IsLoopback() || at.Addr().IsLinkLocalUnicast() || at.Loopback() && at.Addr() == passthroughIPv6 {
			continue
		}
		if at.Addr().Is6() || !a.dualStack {
			return at.Addr().Is6()
		}
	}
	return false
}
