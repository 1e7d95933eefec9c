// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linkerd

import (
	"reflect"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/modes"
)

func TestConfig(t *testing.T) {
	least := func(change func(*modes.Config)) modes.Config {
		c := modes.Config{
			Mode: "sidecar", IPv6: "enabled", Proxy: modes.Proxy{UIDs: []string{"2102"}, OwnCalls: "left"},
			Inbound:  modes.Inbound{Via: "redirect", Port: "4143", TunnelPort: "none"},
			Outbound: modes.Outbound{Via: "redirect", Port: "4140"}, Loopback: modes.Loopback{Passthrough: []string{}},
		}
		change(&c)
		return c
	}
	for _, tt := range []struct {
		why, args string
		want      modes.Config
		problem   string
	}{
		{"the chart's arguments", "--incoming-proxy-port 4143 --outgoing-proxy-port 4140 --proxy-uid 2102", least(func(*modes.Config) {}), ""},
		{"short ones, and one family", "-p 4143 -o 4140 -u 2102 -g 3 -w --ipv6=false", least(func(c *modes.Config) {
			c.IPv6, c.Proxy.GIDs = "disabled", []string{"3"}
		}), ""},
		{"to ignore wins over to redirect", "-p 4143 -o 4140 -u 2102 -r 80,443,8080 --inbound-ports-to-ignore 443-8080", least(func(c *modes.Config) {
			c.Inbound.IncludePorts = []modes.PortWord{"80"}
		}), ""},
		{"all that is redirected may be ignored", "-p 4143 -o 4140 -u 2102 -r 80 --inbound-ports-to-ignore 80", least(func(c *modes.Config) {
			c.Inbound.Via = "none"
		}), ""},
		{"subnets are trimmed, and of both families", "-p 4143 -o 4140 -u 2102 --subnets-to-ignore=10.0.0.0/8,fd00::/8", least(func(c *modes.Config) {
			c.Inbound.ExcludeSources = []string{"10.0.0.0/8", "fd00::/8"}
		}), ""},
		{"root is not exempted", "-p 4143 -o 4140 -u 0", modes.Config{}, "--proxy-uid: neither it nor --proxy-gid is given"},
		{"the ports are wanted", "-u 2102", modes.Config{}, "--incoming-proxy-port: is required\n--outgoing-proxy-port: is required"},
		{"a port is a port", "-p 4143 -o 4140 -u 2102 --outbound-ports-to-ignore 70000", modes.Config{}, `--outbound-ports-to-ignore: "70000" is not a port`},
		{"a subnet is one", "-p 4143 -o 4140 -u 2102 --subnets-to-ignore 10.0.0.0/33", modes.Config{}, `--subnets-to-ignore: "10.0.0.0/33" is not an address or prefix`},
		{"a mode of iptables", "-p 4143 -o 4140 -u 2102 --iptables-mode bpf", modes.Config{}, `--iptables-mode: "bpf" is not a mode (want legacy, nft or plain)`},
		{"a level", "-p 4143 -o 4140 -u 2102 --log-level loud", modes.Config{}, `--log-level: "loud" is not a level`},
	} {
		a, err := Parse(strings.Fields(tt.args), meshinit.Input{})
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		got, err := a.Config(modes.Environment{})
		switch {
		case tt.problem == "" && (err != nil || !reflect.DeepEqual(got, tt.want)):
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", tt.why, got, err, tt.want)
		case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
			t.Errorf("%s: got %v, want %s", tt.why, err, tt.problem)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--proxy-uuid 3", "linkerd-init: unknown flag: --proxy-uuid (did you mean --proxy-uid?)"},
		{"--proxy-uid x", `linkerd-init: invalid argument "x" for "-u, --proxy-uid" flag`},
	} {
		if _, err := Parse(strings.Fields(tt.args), meshinit.Input{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.args, err, tt.want)
		}
	}
	a, err := Parse(strings.Fields("--timeout-close-wait-secs 3600 --simulate --netns /run/netns/x --log-format json"), meshinit.Input{})
	if err != nil || len(a.Sysctls) != 1 || a.Sysctls[0].Value != "3600" || !a.DryRun || a.Namespace != "/run/netns/x" || !a.LogJSON {
		t.Errorf("got %+v, %v", a, err)
	}
}
