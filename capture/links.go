// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Links are those of some interfaces that sockets may be bound to, for the Links of an
// environment that is assumed; [ReadInterfaces] reads a namespace's.
func Links(all []sim.Link) (out []modes.Link) {
	for _, l := range all {
		if l.Down || l.Port || l.Name == "lo" || escape.Text(l.Name) != l.Name { // the tag has no room for names that are escaped
			continue
		}
		link := modes.Link{Name: l.Name}
		for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
			if slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return rules.AddressFamily(p.Addr()) == f }) {
				link.Families = append(link.Families, f)
			}
		}
		if len(link.Families) > 0 {
			out = append(out, link)
		}
	}
	return out
}
