// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// PortNames are what the ports are called on which a configuration's proxy
// listens, such as "outbound listener". Of several names one port has the first.
func PortNames(c Config) map[rules.Port]string {
	called := map[string]string{"inbound.port": "inbound listener", "inbound.tunnelPort": "tunnel listener",
		"outbound.port": "outbound listener", "dns.port": "DNS listener"}
	names := map[rules.Port]string{}
	for _, l := range listeners(c.withDefaults()) {
		lo, hi, ok := parse.Ports(l.word)
		for p := int(lo); ok && p <= int(hi); p++ {
			if _, named := names[rules.Port(p)]; !named {
				names[rules.Port(p)] = called[l.key]
			}
		}
	}
	return names
}
