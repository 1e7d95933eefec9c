// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

const (
	sourceSet   = "inbound_exclude_sources"
	sourceAlone = "an excluded source reaches the application as it is"
)

// sources reads the addresses whose connections are left alone as they come in.
func (r *reader) sources(in Inbound, families []rules.Family) []netip.Prefix {
	const key = "inbound.excludeSources"
	list := r.prefixes(key, in.ExcludeSources)
	if slices.ContainsFunc(list, func(p netip.Prefix) bool { return !slices.Contains(families, rules.AddressFamily(p.Addr())) }) {
		r.note(key, "IPv6 is left alone anyway: its prefixes exclude nothing")
	}
	return list
}

// sources leaves alone what comes from the addresses, where there are any.
func (c *chainWriter) sources(list []netip.Prefix) {
	if len(list) > 0 {
		c.add(sourceAlone, rules.Saddr.InSet(c.prefixes(sourceSet, list)), rules.Return())
	}
}
