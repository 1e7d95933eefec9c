package modes

import "github.com/weir-mesh/weir/rules"

// PortNames are what the ports are called on which a configuration's proxy
// listens, such as "outbound listener". Of several names one port has the first.
func PortNames(c Config) map[rules.Port]string {
	called := map[string]string{"inbound.port": "inbound listener", "inbound.tunnelPort": "tunnel listener",
		"outbound.port": "outbound listener", "dns.port": "DNS listener"}
	names := map[rules.Port]string{}
	for _, l := range listeners(c.withDefaults()) {
		p, ok := parsePort(l.word)
		if _, named := names[p]; ok && !named {
			names[p] = called[l.key]
		}
	}
	return names
}
