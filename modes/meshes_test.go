// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"
	"testing"
)

// TestMeshProblems is TestProblems for the keys that other meshes' configurations ask for.
func TestMeshProblems(t *testing.T) {
	const isPort = "(want a number of 1-65535, a range such as 8000-8100, or a service such as https)"
	for _, tt := range []struct {
		why    string
		config Config
		want   []string
	}{
		{"there may be no tunnel", with(func(c *Config) { c.Inbound.TunnelPort = "none" }), nil},
		{"the tunnel may have a service's port", with(func(c *Config) { c.Inbound.TunnelPort = "https" }), nil},
		{"the tunnel has a port", with(func(c *Config) { c.Inbound.TunnelPort = "0" }), []string{`inbound.tunnelPort: "0" is not a port ` + isPort}},
		{"a source is an address", with(func(c *Config) { c.Inbound.ExcludeSources = []string{"10.0.0.0/33"} }), []string{
			`inbound.excludeSources: "10.0.0.0/33" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`}},
		{"not every source", with(func(c *Config) { c.Inbound.ExcludeSources = []string{"all"} }), []string{
			`inbound.excludeSources: "all" would leave everything alone (want inbound.via: none for that)`}},
		{"calls are captured or left", with(func(c *Config) { c.Proxy.OwnCalls, c.Outbound.OwnPod = "none", "yes" }), []string{
			`proxy.ownCalls: "none" is not one of: captured, left`,
			`outbound.ownPod: "yes" is not one of: left, captured`}},
		{"an ambient pod's proxy does not call its own pod over lo", ambient(func(c *Config) { c.Proxy.OwnCalls = "left" }), []string{
			`proxy.ownCalls: is not used by mode ambient-pod (it is by sidecar)`}},

		{"excluded traffic has its users, protocol and ports", with(func(c *Config) {
			c.Outbound.Exclude = []Excluded{{UIDs: []string{"root", "9-1"}, Protocol: "sctp", Ports: []PortWord{"70000"}}}
		}), []string{
			`outbound.exclude.protocol: "sctp" is not one of: all, tcp, udp`,
			`outbound.exclude.uids: "root" is neither a number nor a user known here`,
			`outbound.exclude.uids: "9-1" is a reversed range (want 1-9)`,
			`outbound.exclude.ports: "70000" is not a port ` + isPort}},
		{"an entry leaves something to capture", with(func(c *Config) { c.Outbound.Exclude = []Excluded{{Protocol: "tcp"}, {Ports: []PortWord{"all"}}} }), []string{
			`outbound.exclude: has an entry without uids and ports: it would leave everything alone (want outbound.via: none for that)`,
			`outbound.exclude: has an entry without uids and ports: it would leave everything alone (want outbound.via: none for that)`}},
		{"none is excluded", with(func(c *Config) { c.Outbound.Exclude = []Excluded{{UIDs: []string{"none"}}} }), nil},

		{"queries have protocols", with(func(c *Config) { c.DNS = DNS{Capture: "all", Protocols: []string{"udp", "quic"}} }), []string{
			`dns.protocols: "quic" is not a protocol of queries (want udp, tcp or both)`}},
		{"one at least", with(func(c *Config) { c.DNS = DNS{Capture: "all", Protocols: []string{}} }), []string{
			`dns.protocols: captures nothing (want udp, tcp, or dns.capture: none)`}},
		{"the proxy's queries are captured where all are", with(func(c *Config) { c.DNS = DNS{Capture: "all", ProxyQueries: "captured"} }), []string{
			`dns.proxyQueries: captured wants dns.exclusions: none: the proxy's queries are among what is left alone`}},

		{"without connection tracking there is no nat", with(func(c *Config) {
			c.Proxy.Mark, c.Conntrack, c.Inbound.Via, c.Outbound.Via = "0x2000/0x2000", "none", "tproxy", "tproxy"
			c.Outbound.Exclude = []Excluded{{Ports: []PortWord{"22"}}}
			c.DNS = DNS{Capture: "all", Protocols: []string{"udp"}, Exclusions: "none", ProxyQueries: "captured", To: []string{"10.0.0.1"}}
			c.Interfaces.Reroute = []Rerouted{{Name: "docker0", DNS: "enabled"}}
		}), []string{
			`conntrack: "none" does not go with outbound.exclude, dns.protocols, dns.exclusions: none, dns.proxyQueries: captured, dns.to, interfaces.reroute: with excludeCIDRs, dns or family, which need connection tracking (want tproxy or none in both directions, or conntrack: used)`}},
		{"another server has an address", with(func(c *Config) {
			c.DNS = DNS{Capture: "all", To: []string{"dns.example", "10.0.0.1:0", "10.0.0.1", "10.0.0.2:53", "::", "::ffff:10.0.0.1"}}
		}), []string{
			`dns.to: "dns.example" is not an address, or an address and a port (want 10.96.0.10, 127.0.0.1:8600 or [::1]:8600)`,
			`dns.to: "10.0.0.1:0" is not an address, or an address and a port (want 10.96.0.10, 127.0.0.1:8600 or [::1]:8600)`,
			`dns.to: "10.0.0.2:53" is a second address of ipv4 (want one at most)`,
			`dns.to: "::" is not an address that queries can go to`,
			`dns.to: "::ffff:10.0.0.1" is an IPv4-mapped address (write it as IPv4)`}},
		{"a rerouted interface's words are read", with(func(c *Config) {
			c.Interfaces.Reroute = []Rerouted{{Name: "docker0", ExcludeCIDRs: []string{"172.17.0.0/33"}, DNS: "udp", Family: "ipx"}}
		}), []string{
			`interfaces.reroute.family: "ipx" is not one of: both, ipv4, ipv6`,
			`interfaces.reroute.excludeCIDRs: "172.17.0.0/33" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`,
			`interfaces.reroute.dns: "udp" is not one of: disabled, enabled`}},
		{"destinations are of the rerouted family", with(func(c *Config) {
			c.Interfaces.Reroute = []Rerouted{{Name: "docker0", ExcludeCIDRs: []string{"fd17::/64"}, Family: "ipv4"}}
		}), []string{
			`interfaces.reroute.excludeCIDRs: "fd17::/64" is of ipv6, which interfaces.reroute.family: ipv4 does not reroute`}},
	} {
		_, _, err := State(tt.config, testEnvironment)
		if got := lines(err); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.why, got, tt.want)
		}
	}
}
