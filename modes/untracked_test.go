// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"strings"
	"testing"
)

// TestUntrackedErrors wants one error for what does not go together, which names the keys.
func TestUntrackedErrors(t *testing.T) {
	for _, tt := range []struct {
		why    string
		change func(*Config)
		want   string // "" where nothing is wrong
	}{
		{"what the reference asks for", func(*Config) {}, ""},
		{"redirect needs nat", func(c *Config) { c.Inbound.Via, c.Outbound.Via = "", "redirect" },
			`conntrack: "none" does not go with inbound.via: redirect, outbound.via: redirect, which need connection tracking`},
		{"marks are kept by conntrack", func(c *Config) { c.Inbound.Via = "marks" }, `conntrack: "none" does not go with inbound.via: marks, which needs connection tracking`},
		{"invalid is a word of conntrack's", func(c *Config) { c.DropInvalid = "enabled" }, `conntrack: "none" does not go with dropInvalid: enabled`},
		{"closed sockets have no owner", func(c *Config) { c.Outbound.ExcludeUIDs, c.Outbound.IncludeGIDs = []string{"1"}, []string{"2"} },
			`conntrack: "none" does not go with outbound.includeGIDs, outbound.excludeUIDs: each packet is judged by itself`},
		{"users alone lose data", func(c *Config) { c.Proxy = Proxy{UIDs: []string{"1337"}} }, `conntrack: "none" needs proxy.mark`},
		{"the proxy's mark is what is looped", func(c *Config) { c.Proxy.Mark = "0x53c" }, `proxy.mark: "0x53c/0xfff" does not tell its packets from those of routing.mark, 0x53c/0xfff`},
		{"the proxy's mark is that of its calls", func(c *Config) { c.Routing.LoopMark = "0x53d" }, `proxy.mark: "0x53d/0xfff" does not tell its packets from those of routing.loopMark`},
		{"a routing mark is the proxy's, under another mask", func(c *Config) { c.Routing.Mark = "0x1053d/0xfffff" }, `proxy.mark: "0x53d/0xfff" does not tell`},
		{"a range has no transparent listener", func(c *Config) { c.Outbound.Port = "15001-15003" }, "outbound.port: "},
		{"without a route nothing is delivered", func(c *Config) { c.Routing.Table = "none" }, "routing.table: "},
		{"cgroups want their mark assigned", func(c *Config) { c.Proxy.Cgroups = []string{"proxy.slice"} }, "proxy.assignMark: and proxy.cgroups go together"},
		{"every datagram", func(c *Config) { c.UDP.Outbound.IncludePorts = []PortWord{"all"} }, "udp.outbound.includePorts: "},
		{"UDP wants it", func(c *Config) {
			c.Inbound.Via, c.Outbound.Via = "", ""
			c.Conntrack, c.UDP.Inbound.IncludePorts = "used", []PortWord{"443"}
		}, "udp.inbound.includePorts: go with conntrack: none alone"},
		{"outbound tproxy wants it", func(c *Config) { c.Conntrack = "used" }, `outbound.via: "tproxy" goes with conntrack: none alone`},
	} {
		c := untracked(tt.change)
		state, _, err := State(c, testEnvironment)
		switch {
		case tt.want == "" && (err != nil || !state.Untracked):
			t.Errorf("%s: %v", tt.why, err)
		case tt.want != "" && (err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got\n%v\nwant one error with\n%s", tt.why, err, tt.want)
		}
	}
}
