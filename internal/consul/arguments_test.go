// SPDX-License-Identifier: Apache-2.0

//go:build linux

package consul

import (
	"reflect"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/modes"
)

func TestConfig(t *testing.T) {
	first := modes.DNS{Zones: "disabled", Exclusions: "none", ProxyQueries: "captured"}
	least := func(change func(*modes.Config)) modes.Config {
		c := modes.Config{
			Mode: "sidecar", IPv6: "disabled", Proxy: modes.Proxy{UIDs: []string{"5995"}, OwnCalls: "left"},
			Inbound:  modes.Inbound{Via: "redirect", Port: "20000", TunnelPort: "none"},
			Outbound: modes.Outbound{Via: "redirect", Port: "15001", OwnPod: "captured"}, Loopback: modes.Loopback{Passthrough: []string{}},
		}
		change(&c)
		return c
	}
	const given = "-proxy-uid 5995 -proxy-inbound-port 20000 "
	for _, tt := range []struct {
		why, args string
		want      modes.Config
		problem   string
	}{
		{"the least", given, least(func(*modes.Config) {}), ""},
		{"exclusions", given + "-exclude-inbound-port 22 -exclude-inbound-port=8080:9000 -exclude-outbound-port ssh -exclude-outbound-cidr 10.0.0.0/8 --exclude-uid 3", least(func(c *modes.Config) {
			c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = []modes.PortWord{"22", "8080:9000"}, []modes.PortWord{"ssh"}
			c.Outbound.ExcludeCIDRs, c.Outbound.ExcludeUIDs = []string{"10.0.0.0/8"}, []string{"3"}
		}), ""},
		{"every query goes to an address", given + "-consul-dns-ip 10.0.0.1", least(func(c *modes.Config) {
			c.DNS = first
			c.DNS.Capture, c.DNS.To = "all", []string{"10.0.0.1"}
		}), ""},
		{"queries to this host go to a port", given + "-consul-dns-port 8600 -dual-stack", least(func(c *modes.Config) {
			c.IPv6, c.DNS = "enabled", first
			c.DNS.Capture, c.DNS.Servers, c.DNS.To = "servers", []string{"::1"}, []string{"[::1]:8600"}
		}), ""},
		{"what is required", "", modes.Config{}, "-proxy-uid: is required\n-proxy-inbound-port: is required"},
		{"Consul is not asked", "-proxy-uid 5995 -proxy-id web", modes.Config{}, `-proxy-id: Consul is not asked for the registration of "web"`},
		{"the address is of the family whose queries are captured", given + "-consul-dns-ip ::1", modes.Config{}, "-consul-dns-ip: ::1 is IPv6, which is captured only with dual stack"},
		{"nor the other way round", given + "-consul-dns-ip 10.0.0.1 -dual-stack", modes.Config{}, "-consul-dns-ip: 10.0.0.1 is IPv4"},
		{"a CIDR", given + "-exclude-outbound-cidr 10.0.0.0/33", modes.Config{}, `-exclude-outbound-cidr: "10.0.0.0/33" is not an address or prefix`},
	} {
		a, err := Parse(strings.Fields(tt.args), meshinit.Input{})
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		got, err := a.Config(modes.Environment{})
		normal(&got)
		switch {
		case tt.problem == "" && (err != nil || !reflect.DeepEqual(got, tt.want)):
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", tt.why, got, err, tt.want)
		case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
			t.Errorf("%s: got %v, want %s", tt.why, err, tt.problem)
		}
	}
}

// normal has lists of the package's own type as plain ones.
func normal(c *modes.Config) {
	c.Outbound.ExcludeCIDRs = append([]string(nil), c.Outbound.ExcludeCIDRs...)
	c.Outbound.ExcludeUIDs = append([]string(nil), c.Outbound.ExcludeUIDs...)
}

func TestParse(t *testing.T) {
	if _, err := Parse([]string{"-proxy-uidd", "3"}, meshinit.Input{}); err == nil || err.Error() != "consul-redirect: unknown flag: -proxy-uidd (did you mean -proxy-uid?)" {
		t.Errorf("an unknown flag: %v", err)
	}
	a, err := Parse([]string{"-token", "secret", "-proxy-uid", "3", "rest"}, meshinit.Input{})
	if err != nil || strings.Contains(strings.Join(append(a.Given, a.Remarks...), " "), "secret") || !strings.Contains(strings.Join(a.Remarks, " "), `"rest" and what follows is ignored`) {
		t.Errorf("got %+v, %v", a, err)
	}
}
