// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// everyConfig are configurations that have as little in common as they can.
func everyConfig() map[string]modes.Config {
	uids := modes.Proxy{UIDs: []string{"1337"}}
	both := modes.Proxy{UIDs: []string{"1337"}, GIDs: []string{"1337"}}
	sidecar := func(p modes.Proxy, change func(*modes.Config)) modes.Config {
		c := modes.Config{Mode: modes.ModeSidecar, IPv6: "enabled", Proxy: p}
		change(&c)
		return c
	}
	return map[string]modes.Config{
		"nothing":  {Mode: modes.ModeNone},
		"redirect": sidecar(uids, func(*modes.Config) {}),
		"redirect, IPv4 alone": sidecar(both, func(c *modes.Config) {
			c.IPv6 = "disabled"
			c.DNS.Capture = "all"
		}),
		"DNS of some servers": sidecar(both, func(c *modes.Config) {
			c.DNS = modes.DNS{Capture: "servers", Servers: []string{"10.96.0.10", "127.0.0.53", "2001:db8:53::53"}}
		}),
		"DNS of all, invalid packets dropped": sidecar(uids, func(c *modes.Config) {
			c.DNS = modes.DNS{Capture: "all", Port: "5353"}
			c.DropInvalid = "enabled"
		}),
		"tproxy": sidecar(both, func(c *modes.Config) { c.Inbound.Via = "tproxy" }),
		"tproxy, IPv4 alone, other routing": sidecar(both, func(c *modes.Config) {
			c.IPv6, c.Inbound.Via = "disabled", "tproxy"
			c.Routing = modes.Routing{Mark: "0x111", LoopMark: "0x112", Table: "100", Priority: "32000"}
		}),
		"tproxy of some ports, DNS of all": sidecar(both, func(c *modes.Config) {
			c.Inbound = modes.Inbound{Via: "tproxy", IncludePorts: []modes.PortWord{"80", "8000-8100"}}
			c.DNS.Capture = "all"
			c.Interfaces.Exclude = []string{"eth1", "veth*"}
		}),
		"ports": sidecar(uids, func(c *modes.Config) {
			c.Inbound = modes.Inbound{ExcludePorts: []modes.PortWord{"15020", "15021", "15090"}, TunnelPort: "15088"}
			c.Outbound = modes.Outbound{ExcludePorts: []modes.PortWord{"22", "3000-3100"}, IncludePorts: []modes.PortWord{"443"}, IncludeCIDRs: []string{"10.0.0.0/8", "fd00::/8"}}
		}),
		"owners, DNS of all": sidecar(both, func(c *modes.Config) {
			c.Outbound = modes.Outbound{IncludeGIDs: []string{"1000", "1001"}, ExcludeGIDs: []string{"2000"}, ExcludeUIDs: []string{"3000"}}
			c.DNS.Capture = "all"
		}),
		"interfaces": sidecar(uids, func(c *modes.Config) {
			c.Interfaces = modes.Interfaces{Exclude: []string{"eth1", "br*"}, Reroute: []modes.Rerouted{{Name: "tap0"}, {Name: "vnet*", Exclusions: "ignored"}}}
			c.Outbound.IncludeCIDRs = []string{"10.0.0.0/8"}
		}),
		"inbound of some ports alone": sidecar(uids, func(c *modes.Config) {
			c.Inbound.IncludePorts = []modes.PortWord{"80", "443"}
			c.Outbound.Via = "none"
		}),
		"outbound alone": sidecar(uids, func(c *modes.Config) {
			c.Inbound.Via = "none"
			c.Outbound.ExcludeCIDRs = []string{"10.0.0.0/8", "192.168.0.0/16", "2001:db8::/32"}
		}),
		"loopback, several users, a mark": sidecar(modes.Proxy{UIDs: []string{"1337", "1338"}, GIDs: []string{"7"}, Mark: "0x539/0xfff"}, func(c *modes.Config) {
			c.Loopback = modes.Loopback{CIDR: "127.0.0.0/8", Passthrough: []string{"127.0.0.9", "::9", "::a"}}
			c.Outbound.IncludeCIDRs = []string{"127.0.0.0/16", "10.0.0.0/8"}
		}),
	}
}

// stateOf is what a configuration asks of a namespace that has everything.
func stateOf(t testing.TB, c modes.Config) rules.State {
	t.Helper()
	env := modes.Environment{IPv6: true, LoopbackIPv6: true, Resolvers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
	state, _, err := modes.State(c, env)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

var counted = regexp.MustCompile(`counter packets \d+ bytes \d+`)

// holds is all that the namespace holds, as nft and ip tell it, less what
// counters count. Tables list their sets in the order in which they were made,
// which is not part of what they do.
func (n *namespace) holds() string {
	n.Helper()
	var text string
	for range 100 {
		text = n.must("", "sh", "-c", "nft list ruleset && ip -4 rule && ip -6 rule && ip -4 route show table all && ip -6 route show table all && ip addr")
		if settled(text) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	text = counted.ReplaceAllString(text, "counter")
	ruleset, routing, _ := strings.Cut(text, "\n}\n")
	blocks := strings.Split(ruleset, "\n\n") // a set or a chain each
	var sets, chains []string
	for _, b := range blocks {
		b = strings.TrimSuffix(b, "\n")
		if first, rest, ok := strings.Cut(b, "\n"); ok && strings.HasPrefix(first, "table ") {
			chains, b = append(chains, first), rest
		}
		if strings.HasPrefix(strings.TrimSpace(b), "set ") {
			sets = append(sets, b)
		} else {
			chains = append(chains, b)
		}
	}
	slices.Sort(sets)
	return strings.Join(append(sets, chains...), "\n") + "\n" + routing
}

var loopbackAddress = regexp.MustCompile(`(?m)^    inet6 (\S+)/128 scope global`)

// settled reports whether the kernel is done with the addresses of lo: it makes
// their routes a moment after the addresses.
func settled(text string) bool {
	for _, a := range loopbackAddress.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(text, "\nlocal "+a[1]+" dev lo table local") {
			return false
		}
	}
	return !strings.Contains(text, " tentative")
}

// TestOneAfterTheOther applies each configuration after each other one, in one
// namespace: it then holds what the second alone would make it hold.
func TestOneAfterTheOther(t *testing.T) {
	configs := everyConfig()
	states, alone := map[string]rules.State{}, map[string]string{}
	for name, c := range configs {
		n := newNamespace(t)
		states[name] = stateOf(t, c)
		if err := applyOrRemove(n.session(), states[name]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		alone[name] = n.holds()
	}
	n := newNamespace(t)
	s := n.session()
	pairs := 0
	for first := range configs {
		for second := range configs {
			for _, name := range []string{first, second} {
				if err := applyOrRemove(s, states[name]); err != nil {
					t.Fatalf("%s, then %s: %v", first, second, err)
				}
			}
			if d := changed(alone[second], n.holds()); d != "" {
				t.Errorf("%s, then %s: not what the second alone makes:\n%s", first, second, d)
			}
			pairs++
		}
	}
	t.Logf("%d pairs", pairs)
}

// TestOneAfterTheOtherByTheProgram does the same with the program, and with
// istio-init beside apply.
func TestOneAfterTheOtherByTheProgram(t *testing.T) {
	commands := map[string][]string{
		"nothing": {"apply", "--mode", "none"},
		"apply":   {"apply", "--mode", "sidecar", "--proxy-uids", "1337", "--ipv6", "enabled", "--outbound-exclude-cidrs", "10.0.0.0/8,fd00::/8"},
		"apply, tproxy and DNS": {"apply", "--mode", "sidecar", "--proxy-gids", "1337", "--ipv6", "enabled", "--inbound-via", "tproxy",
			"--dns-capture", "servers", "--dns-servers", "10.96.0.10"},
		"istio-init":         append([]string{"istio-init"}, injected("REDIRECT")...),
		"istio-init, tproxy": append([]string{"istio-init"}, injected("TPROXY", "-o", "22", "-k", "tap+")...),
		"cleaned up":         {"istio-init", "--cleanup-only"},
	}
	alone := map[string]string{}
	c := newCLI(t)
	for name, args := range commands {
		other := c.elsewhere(t)
		other.ok(args...)
		alone[name] = other.holds()
	}
	for first, a := range commands {
		for second, b := range commands {
			c.ok(a...)
			c.ok(b...)
			if d := changed(alone[second], c.holds()); d != "" {
				t.Errorf("%s, then %s: not what the second alone makes:\n%s", first, second, d)
			}
		}
	}
}
