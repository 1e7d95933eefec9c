// SPDX-License-Identifier: Apache-2.0

package modes

func init() { goldens = append(goldens, meshGoldens...) }

// meshGoldens show what other meshes' configurations ask for.
var meshGoldens = []golden{
	{"own-calls-left", "the proxy's calls to its own pod are left alone, some sources are too, and there is no tunnel", with(func(c *Config) {
		c.Proxy.OwnCalls = "left"
		c.Inbound.TunnelPort, c.Inbound.ExcludeSources = "none", []string{"192.0.2.0/24", "fd00::1"}
	}), testEnvironment},
	{"own-pod-captured", "the application's calls to its own pod go through the proxy, and the tunnel has several ports", with(func(c *Config) {
		c.Outbound.OwnPod, c.Inbound.TunnelPort = "captured", "15008-15010"
	}), testEnvironment},
	{"tproxy-sources", "by transparent sockets: some sources are left alone, and so are the proxy's calls to its own pod", with(func(c *Config) {
		c.Inbound.Via, c.Proxy.OwnCalls = "tproxy", "left"
		c.Inbound.ExcludeSources = []string{"192.0.2.0/24", "fd00::1"}
	}), testEnvironment},
	{"ambient-sources", "an ambient pod with sources left alone, no tunnel, and its own calls captured", ambient(func(c *Config) {
		c.Inbound.TunnelPort, c.Inbound.ExcludeSources = "none", []string{"192.0.2.0/24"}
		c.Outbound.OwnPod = "captured"
	}), testEnvironment},
	{"excluded-together", "traffic left alone by user, protocol and port together", with(func(c *Config) {
		c.DNS.Capture = "all"
		c.Interfaces.Reroute = []Rerouted{{Name: "vm0"}}
		c.Outbound.Exclude = []Excluded{
			{UIDs: []string{"1000", "2000-3000"}, Protocol: "tcp", Ports: []PortWord{"80", "8000-8100"}},
			{UIDs: []string{"nobody"}, Protocol: "udp", Ports: []PortWord{"53"}},
			{Ports: []PortWord{"22"}},
			{UIDs: []string{"4000"}},
		}
	}), testEnvironment},
	{"ambient-excluded-together", "an ambient pod that leaves traffic alone by user, protocol and port together", ambient(func(c *Config) {
		c.DNS.Capture = "all"
		c.Outbound.Exclude = []Excluded{{UIDs: []string{"1000"}, Protocol: "tcp", Ports: []PortWord{"80"}}, {UIDs: []string{"nobody"}, Ports: []PortWord{"domain"}}}
	}), testEnvironment},
	{"dns-udp", "queries over UDP alone, without zones, and none to an excluded destination", with(func(c *Config) {
		c.DNS = DNS{Capture: "servers", Protocols: []string{"udp"}, Zones: "disabled", Exclusions: "all"}
		c.Outbound.ExcludeCIDRs, c.Outbound.ExcludePorts = []string{"10.96.0.0/12", "fd00:1::/32"}, []PortWord{"22"}
		c.Interfaces.Reroute = []Rerouted{{Name: "vm0"}}
	}), testEnvironment},
	{"dns-first", "queries are captured before anything is left alone, the proxy's too", with(func(c *Config) {
		c.DNS = DNS{Capture: "all", Exclusions: "none", ProxyQueries: "captured"}
		c.Outbound.ExcludeCIDRs, c.Outbound.ExcludePorts, c.Outbound.ExcludeUIDs = []string{"10.96.0.0/12"}, []PortWord{"53"}, []string{"1000"}
	}), testEnvironment},
	{"dns-first-but-proxy", "queries are captured before anything but the proxy's is left alone", with(func(c *Config) {
		c.DNS = DNS{Capture: "servers", Exclusions: "none"}
		c.Outbound.ExcludeUIDs = []string{"1000"}
	}), testEnvironment},
	{"dns-zones-destinations", "a query to an excluded destination has a zone of one direction", with(func(c *Config) {
		c.DNS = DNS{Capture: "all", Exclusions: "all"}
		c.Outbound.ExcludeCIDRs = []string{"10.96.0.0/12"}
	}), testEnvironment},
	{"ambient-dns-tcp", "an ambient pod whose queries over TCP alone are captured, whatever it leaves alone", ambient(func(c *Config) {
		c.DNS = DNS{Capture: "all", Protocols: []string{"tcp"}, Exclusions: "none"}
		c.Outbound.ExcludeUIDs = []string{"1000"}
	}), testEnvironment},
	{"ambient-dns-destinations", "an ambient pod's queries to excluded destinations are left alone", ambient(func(c *Config) {
		c.DNS = DNS{Capture: "all", Exclusions: "all"}
		c.Outbound.ExcludeCIDRs = []string{"10.96.0.0/12"}
	}), testEnvironment},
	{"reroute-links", "rerouted interfaces of which more is said: destinations, queries, one family", with(func(c *Config) {
		c.Interfaces.Reroute = []Rerouted{
			{Name: "br*", Exclusions: "ignored", ExcludeCIDRs: []string{"172.18.0.0/16"}, DNS: "enabled", Family: "ipv4"},
			{Name: "docker0", Exclusions: "ignored", ExcludeCIDRs: []string{"172.17.0.0/16", "fd17::/64"}},
			{Name: "tap0", DNS: "enabled"},
			{Name: "vm0"},
		}
		c.Outbound.ExcludePorts, c.Outbound.IncludeCIDRs = []PortWord{"22"}, []string{"10.0.0.0/8", "fd00::/8"}
		c.DNS.Protocols = []string{"udp"}
	}), testEnvironment},
	{"reroute-links-none", "nothing outbound is captured: of rerouted interfaces, queries alone", with(func(c *Config) {
		c.Outbound.Via = "none"
		c.Interfaces.Reroute = []Rerouted{{Name: "+", DNS: "enabled"}}
	}), testEnvironment},
	{"ambient-reroute-links", "an ambient pod's rerouted interfaces of which more is said", ambient(func(c *Config) {
		c.Interfaces.Reroute = []Rerouted{{Name: "docker0", Exclusions: "ignored", ExcludeCIDRs: []string{"172.17.0.0/16"}}, {Name: "tap0", DNS: "enabled"}}
		c.Outbound.ExcludePorts = []PortWord{"22"}
	}), testEnvironment},
	{"dns-to", "queries to anyone are answered by another server, and IPv6's are left alone", with(func(c *Config) {
		c.DNS = DNS{Capture: "all", To: []string{"10.96.0.10"}}
	}), testEnvironment},
	{"dns-to-port", "queries to the resolvers are answered on other ports here", with(func(c *Config) {
		c.DNS = DNS{Capture: "servers", To: []string{"127.0.0.1:8600", "[::1]:8600"}, Zones: "disabled"}
	}), testEnvironment},
	{"ambient-dns-to", "an ambient pod's queries are answered by another server", ambient(func(c *Config) {
		c.DNS = DNS{Capture: "all", To: []string{"10.96.0.10:5353", "fd00::10"}}
	}), testEnvironment},
}
