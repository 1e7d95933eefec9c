// SPDX-License-Identifier: Apache-2.0

package modes

import "net/netip"

// Environment is what a configuration does not say of the namespace that it is
// for. Whoever has the namespace at hand reads it there.
type Environment struct {
	IPv6         bool              // an interface other than lo has an IPv6 address that is not link-local
	LoopbackIPv6 bool              // lo takes IPv6 addresses (net.ipv6.conf.lo.disable_ipv6)
	Resolvers    []netip.Addr      // of resolv.conf
	Users        map[string]uint32 // ids by name, of passwd
	Groups       map[string]uint32 // ids by name, of group
	Unread       map[string]error  // why a file of /etc was not read: by its name, such as passwd or resolv.conf

	PolicyRules []PolicyRule // of both families, in the order in which the kernel asks those of one; for routing.priority

	Links []Link // to which sockets may be bound

	PostroutingInput bool              // packets in postrouting tell by which interface they came in (Linux 5.7)
	InnerPayload     bool              // rules read what follows a transport header (Linux 5.16); for mode egress
	MTU              int               // the smallest of an interface other than lo, in bytes; 0: not known; for mode egress
	Cgroups          map[string]uint64 // ids of cgroups v2, by their paths below the root
}
