// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestExamplesOfDNS: where queries to every server are captured, one to an address that no host
// has is an example of each family; a real server is never called.
func TestExamplesOfDNS(t *testing.T) {
	for _, tt := range []struct {
		why    string
		change func(*Config)
		uid    rules.UID
		want   []string
	}{
		{"every server", func(*Config) {}, 1000, []string{"DNS ipv4 192.0.2.1:53", "DNS ipv6 [2001:db8::1]:53"}},
		{"the proxy asks itself", func(*Config) {}, 1337, nil},
		{"the resolvers alone", func(c *Config) { c.DNS.Capture = "servers" }, 1000, nil},
		{"over UDP alone", func(c *Config) { c.DNS.Protocols = []string{"udp"} }, 1000, nil},
		{"port 53 is excluded", func(c *Config) { c.Outbound.ExcludePorts = []PortWord{"53"} }, 1000, nil},
		{"the user is excluded", func(c *Config) { c.Outbound.ExcludeUIDs = []string{"1000"} }, 1000, nil},
		{"an address of documentation is excluded", func(c *Config) { c.Outbound.ExcludeCIDRs = []string{"192.0.2.0/24"} }, 1000, []string{"DNS ipv4 198.51.100.1:53", "DNS ipv6 [2001:db8::1]:53"}},
	} {
		c := Config{Mode: ModeSidecar, Proxy: Proxy{UIDs: []string{"1337"}}, DNS: DNS{Capture: "all"}}
		tt.change(&c)
		var got []string
		for _, e := range Examples(c, Environment{IPv6: true, LoopbackIPv6: true}, Caller{UID: tt.uid}, 15002) {
			if e.To.Port() == uint16(dnsPort) {
				got = append(got, e.What+" "+e.To.String())
				if e.Port != 15053 {
					t.Errorf("%s: port %d", tt.why, e.Port)
				}
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}
