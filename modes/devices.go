// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// Link is an interface of the namespace other than lo that sockets may be bound to.
type Link struct {
	Name     string
	Families []rules.Family // of which it has an address
}

// maxBoundLinks bounds the routes that are added: a machine may have thousands of links.
const maxBoundLinks = 32

// boundRoutes have what sockets send that are bound to an interface (SO_BINDTODEVICE, a
// link-local destination) find the loopback address that it is redirected to: to them lo's own
// routes do not exist. They let nothing in: what comes by the interface for a loopback address
// is dropped before a route is looked up (ip_route_input_slow, ip6_rcv_core).
func (r *reader) boundRoutes(families []rules.Family, exclude []rules.IfName) (out []rules.Route) {
	for _, l := range r.env.Links[:min(len(r.env.Links), maxBoundLinks)] {
		if slices.ContainsFunc(exclude, func(word rules.IfName) bool { return parse.Matches(string(word), l.Name) }) {
			continue
		}
		for _, own := range ownAddresses {
			f := rules.AddressFamily(own.Addr())
			reached := f == rules.IPv4 || r.env.LoopbackIPv6
			if reached && slices.Contains(families, f) && slices.Contains(l.Families, f) {
				out = append(out, rules.Route{Family: f, Table: rules.LocalTable, Dst: own, Device: rules.IfName(l.Name)})
			}
		}
	}
	return out
}

// loopedToo are the routes that have what such sockets send and a policy rule loops delivered.
func (g routing) loopedToo(bound []rules.Route) (out []rules.Route) {
	for _, r := range bound {
		if g.table != 0 && slices.Contains(g.families, r.Family) {
			r.Table, r.Dst = g.table, netip.PrefixFrom(r.Dst.Addr(), 0).Masked()
			out = append(out, r)
		}
	}
	return out
}
