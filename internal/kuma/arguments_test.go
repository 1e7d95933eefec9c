// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kuma

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

var environment = modes.Environment{Users: map[string]uint32{"envoy": 101}}

func TestConfig(t *testing.T) {
	least := func(change func(*modes.Config)) modes.Config {
		c := modes.Config{
			Mode: "sidecar", Proxy: modes.Proxy{UIDs: []string{"5678"}},
			Inbound:  modes.Inbound{Via: "redirect", Port: "15006", TunnelPort: "none"},
			Outbound: modes.Outbound{Via: "redirect", Port: "15001"},
			DNS:      modes.DNS{Port: "15053", Protocols: []string{"udp"}, Exclusions: "all"},
		}
		change(&c)
		return c
	}
	tcpQueries := modes.Excluded{UIDs: []string{"0-5677", "5679-4294967294"}, Protocol: "tcp", Ports: modes.Ports(53)}
	for _, tt := range []struct {
		why, args string
		env       map[string]string
		want      modes.Config
		problem   string
	}{
		{"nothing is said, and the words of an injected container are ignored", "install transparent-proxy", nil, least(func(*modes.Config) {}), ""},
		{"a user by name", "--kuma-dp-user envoy", nil, least(func(c *modes.Config) { c.Proxy.UIDs = []string{"101"} }), ""},
		{"a user that is not known", "--kuma-dp-user nobody", nil, modes.Config{}, `--kuma-dp-user: "nobody" is neither a number nor a user known here`},
		{"queries to resolvers, and those over TCP left alone", "--redirect-dns", nil, least(func(c *modes.Config) {
			c.DNS.Capture, c.Outbound.Exclude = "servers", []modes.Excluded{tcpQueries}
		}), ""},
		{"all queries, by a variable", "", map[string]string{"KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_CAPTURE_ALL": "true", "KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_ENABLED": "true"}, least(func(c *modes.Config) {
			c.DNS.Capture, c.Outbound.Exclude = "all", []modes.Excluded{tcpQueries}
		}), ""},
		{"a flag wins over its variable", "--redirect-inbound-port 1 --exclude-outbound-ips 10.0.0.1", map[string]string{
			"KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_PORT": "2", "KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_IPS": "10.0.0.2"}, least(func(c *modes.Config) {
			c.Inbound.Port, c.Outbound.ExcludeCIDRs = "1", []string{"10.0.0.1"}
		}), ""},
		{"port 53 is left alone of TCP", "--redirect-all-dns-traffic --exclude-outbound-ports 53,22", nil, least(func(c *modes.Config) {
			c.DNS.Capture, c.Outbound.Exclude = "all", []modes.Excluded{{Protocol: "tcp", Ports: modes.Ports(53, 22)}, tcpQueries}
		}), ""},
		{"ports by user", "--exclude-outbound-ports-for-uids tcp,udp:80,8000-8100:1000-2000 --exclude-outbound-ports-for-uids *:3", nil, least(func(c *modes.Config) {
			c.Outbound.Exclude = []modes.Excluded{
				{UIDs: []string{"1000-2000"}, Protocol: "tcp", Ports: []modes.PortWord{"80", "8000-8100"}},
				{UIDs: []string{"1000-2000"}, Protocol: "udp", Ports: []modes.PortWord{"80", "8000-8100"}},
				{UIDs: []string{"3"}},
			}
		}), ""},
		{"not so", "--exclude-outbound-ports-for-uids tcp:80:1000,2000", nil, modes.Config{}, `--exclude-outbound-ports-for-uids: "tcp:80:1000,2000" is not [protocol:][ports:]uids`},
		{"a protocol", "--exclude-outbound-ports-for-uids sctp:80:1000", nil, modes.Config{}, `--exclude-outbound-ports-for-uids: "sctp:80:1000" is not [protocol:][ports:]uids`},
		{"networks: of one family the last counts", "--vnet docker0:172.17.0.0/16 --vnet docker0:172.18.0.0/16 --vnet br+:fd00::1/64", nil, least(func(c *modes.Config) {
			c.Interfaces.Reroute = []modes.Rerouted{
				{Name: "docker0", Exclusions: "ignored", ExcludeCIDRs: []string{"172.18.0.0/16"}, DNS: "enabled", Family: "ipv4"},
				{Name: "br+", Exclusions: "ignored", ExcludeCIDRs: []string{"fd00::1/64"}, DNS: "enabled", Family: "ipv6"},
			}
		}), ""},
		{"not a network", "--vnet docker0", nil, modes.Config{}, `--vnet: "docker0" is not interface:CIDR`},
		{"a gateway", "--redirect-inbound=false --exclude-inbound-ports 22", nil, least(func(c *modes.Config) { c.Inbound.Via = "none" }), ""},
		{"not both", "--redirect-dns --redirect-all-dns-traffic", nil, modes.Config{}, "--redirect-dns: goes not with --redirect-all-dns-traffic"},
		{"what cannot be done", "--store-firewalld", nil, modes.Config{}, "--store-firewalld: weir's table is not firewalld's"},
		{"a family", "--ip-family-mode ipv6", nil, modes.Config{}, `--ip-family-mode: "ipv6" is not a family (want dualstack or ipv4)`},
	} {
		lookup := func(name string) (string, bool) { v, set := tt.env[name]; return v, set }
		a, err := Parse(strings.Fields(tt.args), meshinit.Input{Variable: lookup})
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		got, err := a.Config(environment)
		switch {
		case tt.problem == "" && (err != nil || !reflect.DeepEqual(got, tt.want)):
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", tt.why, got, err, tt.want)
		case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
			t.Errorf("%s: got %v, want %s", tt.why, err, tt.problem)
		}
	}
}

func TestParse(t *testing.T) {
	none := meshinit.Input{Variable: func(string) (string, bool) { return "", false }}
	if _, err := Parse([]string{"--redirect-dsn"}, none); err == nil || err.Error() != "kuma-init: unknown flag: --redirect-dsn (did you mean --redirect-dns?)" {
		t.Errorf("an unknown flag: %v", err)
	}
	wrong := meshinit.Input{Variable: func(name string) (string, bool) {
		return "maybe", name == "KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_ENABLED"
	}}
	if _, err := Parse(nil, wrong); err == nil || !strings.Contains(err.Error(), `KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_ENABLED: "maybe": is not a bool`) {
		t.Errorf("a wrong variable: %v", err)
	}
	a, err := Parse(nil, none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Config(environment); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"192.0.2.1": false, "fe80::1": true, "2001:db8::1": true} {
		if got := a.HasIPv6([]netns.Address{{Prefix: netip.MustParsePrefix("::1/128"), Index: 1}, {Prefix: netip.PrefixFrom(netip.MustParseAddr(address), 24), Index: 2}}); got != want {
			t.Errorf("IPv6 by %s: %v", address, got)
		}
	}
}
