// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the goldens anew")

type golden struct {
	name   string
	why    string
	config Config
	env    Environment
}

// watchedEnvironment is that of a pod of which egress is counted, on a new kernel.
var watchedEnvironment = Environment{InnerPayload: true, MTU: 1500,
	Resolvers: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::53")}}

// goldens are configurations that show every rule of a mode.
var goldens = []golden{
	{"default", "the least configuration, where there is IPv6", least(), testEnvironment},
	{"ipv4", "IPv6 is left alone explicitly", least(), Environment{}},
	{"ports", "listed ports in, ports out whatever the destination, ports left alone", with(func(c *Config) {
		c.Inbound.IncludePorts = []PortWord{"80", "443", "8000-8100"}
		c.Outbound.IncludeCIDRs = []string{"10.96.0.0/12"}
		c.Outbound.IncludePorts = []PortWord{"8443", "9000-9100"}
		c.Outbound.ExcludePorts = []PortWord{"22", "25-26"}
	}), testEnvironment},
	{"cidrs", "destinations of both families", with(func(c *Config) {
		c.Outbound.IncludeCIDRs = []string{"10.0.0.0/8", "fd00::/8"}
		c.Outbound.ExcludeCIDRs = []string{"10.1.0.0/16", "192.0.2.1", "fd00:1::/32"}
		c.Inbound.ExcludePorts = []PortWord{"15090", "15021", "15020"}
	}), testEnvironment},
	{"cidrs-one-family", "destinations of IPv6 alone: no IPv4 destination is captured, and none is excluded", with(func(c *Config) {
		c.Outbound.IncludeCIDRs = []string{"fd00::/8"}
		c.Outbound.ExcludeCIDRs = []string{"fd00:1::/32"}
	}), testEnvironment},
	{"interfaces", "names and wildcards, left alone and rerouted", with(func(c *Config) {
		c.Interfaces.Exclude = []string{"eth1", "veth*"}
		c.Interfaces.Reroute = []Rerouted{{Name: "vm0"}, {Name: "tap*"}}
	}), testEnvironment},
	{"several-uids", "of several users, the first one's calls to its own pod are captured", with(func(c *Config) {
		c.Proxy = Proxy{UIDs: []string{"1338", "1337"}, GIDs: []string{"1337"}}
	}), testEnvironment},
	{"user-ranges", "users and groups come in ranges, and so do listeners; and so do ports", with(func(c *Config) {
		c.Proxy = Proxy{UIDs: []string{"1000-2000", "1337", "3000"}, GIDs: []string{"1000-2000"}}
		c.Outbound.Port, c.Outbound.IncludePorts = "15001-15003", []PortWord{"https", "9000:"}
		c.Outbound.IncludeGIDs, c.Outbound.ExcludeGIDs, c.Outbound.ExcludeUIDs = []string{"5000-6000", "7"}, []string{"5500-5501"}, []string{"100-200"}
		c.DNS.Capture = "all"
	}), testEnvironment},
	{"reroute", "what is rerouted counts as outbound, its exclusions too, but for an interface that ignores them", with(func(c *Config) {
		c.Interfaces.Reroute = []Rerouted{{Name: "tap*"}, {Name: "tap0", Exclusions: "ignored"}, {Name: "vm*", Exclusions: "ignored"}, {Name: "vm0", Exclusions: "honoured"}}
		c.Outbound.IncludeCIDRs, c.Outbound.ExcludeCIDRs = []string{"10.0.0.0/8", "fd00::/8"}, []string{"10.1.0.0/16", "fd00:1::/32"}
		c.Outbound.IncludePorts, c.Outbound.ExcludePorts = []PortWord{"443"}, []PortWord{"22"}
	}), testEnvironment},
	{"ambient-reroute", "an ambient pod's exclusions count for what is rerouted, but for an interface that ignores them", ambient(func(c *Config) {
		c.Interfaces.Reroute = []Rerouted{{Name: "vm0"}, {Name: "tap*", Exclusions: "ignored"}}
		c.Outbound.ExcludeCIDRs, c.Outbound.ExcludePorts = []string{"10.0.0.0/8"}, []PortWord{"22"}
	}), testEnvironment},
	{"every-interface", "every interface is left alone, and rerouted before that", with(func(c *Config) {
		c.Interfaces = Interfaces{Exclude: []string{"+"}, Reroute: []Rerouted{{Name: "+"}}}
	}), testEnvironment},
	{"ambient-ranges", "an ambient pod that leaves ranges alone, on every interface", ambient(func(c *Config) {
		c.Interfaces.Exclude = []string{"+"}
		c.Outbound.ExcludeUIDs, c.Outbound.ExcludeGIDs = []string{"100-200"}, []string{"300-400", "5"}
	}), testEnvironment},
	{"tproxy-table-none", "marked packets are routed as others are", with(func(c *Config) {
		c.Inbound.Via, c.Routing.Table = "tproxy", "none"
	}), testEnvironment},
	{"mark", "the proxy is known by its mark alone", Config{Mode: ModeSidecar, Proxy: Proxy{Mark: "0x539/0xfff"}}, testEnvironment},
	{"loopback", "a captured loopback prefix: the application's own calls over lo are looked at", with(func(c *Config) {
		c.Proxy.GIDs = []string{"1337"}
		c.Loopback.CIDR = "127.0.0.0/24"
		c.Outbound.IncludeCIDRs = []string{"127.1.0.0/16", "10.0.0.0/8"}
	}), testEnvironment},
	{"loopback-bits", "a prefix written with a loopback address counts as one, whatever it covers", with(func(c *Config) {
		c.Outbound.IncludeCIDRs = []string{"::1/64", "10.0.0.0/8"}
	}), testEnvironment},
	{"dns-servers", "queries to the namespace's resolvers", with(func(c *Config) {
		c.Proxy.GIDs = []string{"1337"}
		c.DNS.Capture = "servers"
		c.Outbound.ExcludePorts = []PortWord{"5353"}
	}), testEnvironment},
	{"dns-all", "queries to anyone", with(func(c *Config) {
		c.DNS.Capture = "all"
	}), testEnvironment},
	{"owner-groups", "only some groups' traffic is captured, and never some users'", with(func(c *Config) {
		c.Outbound.IncludeGIDs = []string{"1000", "staff"}
		c.Outbound.ExcludeGIDs = []string{"2000"}
		c.Outbound.ExcludeUIDs = []string{"nobody"}
		c.DNS.Capture = "all"
	}), testEnvironment},
	{"tproxy", "inbound by transparent sockets, every port", Config{
		Mode:  ModeSidecar,
		Proxy: Proxy{UIDs: []string{"0"}, GIDs: []string{"1337"}},
		Inbound: Inbound{
			Via: "tproxy", ExcludePorts: []PortWord{"15020", "15021"},
		},
	}, testEnvironment},
	{"tproxy-ports", "inbound by transparent sockets, listed ports, an interface left alone, no IPv6", with(func(c *Config) {
		c.Inbound.Via, c.Inbound.IncludePorts = "tproxy", []PortWord{"80", "8000-8100"}
		c.Interfaces.Exclude = []string{"eth1"}
		c.Routing = Routing{Mark: "0x1000", LoopMark: "0x2000", Mask: "0xff000", Table: "200", Priority: "100"}
	}), Environment{}},
	{"tproxy-marks", "nothing inbound is captured, but connections are marked as with tproxy", with(func(c *Config) {
		c.Inbound.Via = "marks"
	}), testEnvironment},
	{"drop-invalid", "packets that conntrack calls invalid end here", with(func(c *Config) { c.DropInvalid = "enabled" }), testEnvironment},
	{"inbound-only", "nothing outbound but the proxy's calls to its own pod", with(func(c *Config) {
		c.Outbound.Via, c.Inbound.ExcludePorts = "none", []PortWord{"22"}
	}), testEnvironment},
	{"untracked", "no connection is tracked: the least configuration", untracked(func(*Config) {}), testEnvironment},
	{"untracked-fuller", "no connection is tracked, and some traffic is left alone by where it goes, or comes from a virtual machine", untracked(func(c *Config) {
		c.Proxy.UIDs, c.Proxy.GIDs = []string{"1337"}, []string{"1337"}
		c.Outbound.ExcludePorts, c.Outbound.ExcludeCIDRs = []PortWord{"25"}, []string{"10.1.0.0/16", "fd00:1::/32"}
		c.Outbound.IncludeCIDRs, c.Outbound.IncludePorts = []string{"10.0.0.0/8", "127.1.0.0/16", "fd00::/8"}, []PortWord{"8443"}
		c.Interfaces = Interfaces{Exclude: []string{"eth1"}, Reroute: []Rerouted{{Name: "vm0"}, {Name: "tap*", Exclusions: "ignored"}}}
	}), testEnvironment},
	{"untracked-udp", "no connection is tracked, and datagrams and queries are captured too", untracked(func(c *Config) {
		c.UDP.Outbound = UDPOutbound{IncludePorts: []PortWord{"443"}, Port: "15002"}
		c.UDP.Inbound = UDPInbound{IncludePorts: []PortWord{"443", "8443"}, Port: "15007"}
		c.DNS.Capture = "all"
	}), testEnvironment},
	{"untracked-ports", "no connection is tracked, a few ports are captured, and known resolvers' queries", untracked(func(c *Config) {
		c.Inbound.IncludePorts = []PortWord{"80", "8000-8100"}
		c.DNS = DNS{Capture: "servers", Servers: []string{"10.96.0.10", "127.0.0.53", "2001:db8:53::53", "2001:db8:53::54"}}
	}), testEnvironment},
	{"untracked-outbound", "no connection is tracked, and nothing is captured as it comes in; a cgroup program marks the proxy's sockets; no IPv6", untracked(func(c *Config) {
		c.Inbound.Via = "none"
		c.Proxy.Cgroups, c.Proxy.AssignMark = []string{"proxy.slice"}, "enabled"
	}), Environment{}},
	{"ambient", "a pod of ambient mode, both families", ambient(func(*Config) {}), testEnvironment},
	{"ambient-link-local", "an ambient pod whose calls to link-local addresses are captured too", ambient(func(c *Config) { c.Outbound.LinkLocal = "captured" }), testEnvironment},
	{"ambient-dns-ipv4", "an ambient pod whose queries are captured, without IPv6", ambient(func(c *Config) { c.DNS.Capture = "all" }), Environment{}},
	{"ambient-ingress", "an ambient pod that is reached as it is, with virtual machines behind it", ambient(func(c *Config) {
		c.Inbound.Via = "none"
		c.Interfaces.Reroute = []Rerouted{{Name: "vm0"}, {Name: "tap*"}}
	}), testEnvironment},
	{"ambient-exclusions", "whatever an ambient pod may leave alone", ambient(func(c *Config) {
		c.DNS.Capture = "all"
		c.Interfaces.Reroute = []Rerouted{{Name: "vm0"}}
		c.Interfaces.Exclude = []string{"eth1", "veth*"}
		c.Inbound.ExcludePorts = []PortWord{"22"}
		c.Outbound.ExcludePorts = []PortWord{"25", "5353"}
		c.Outbound.ExcludeCIDRs = []string{"10.0.0.0/8"}
		c.Outbound.ExcludeUIDs = []string{"nobody"}
		c.Outbound.ExcludeGIDs = []string{"2000"}
	}), testEnvironment},
	{"ambient-exclusions-none", "exclusions of an ambient pod that are written, if only as none, have their sets", ambient(func(c *Config) {
		c.Interfaces.Exclude = []string{}
		c.Inbound.ExcludePorts = []PortWord{"none"}
		c.Outbound.ExcludePorts = []PortWord{}
		c.Outbound.ExcludeCIDRs = []string{}
		c.Outbound.ExcludeUIDs = []string{}
		c.Outbound.ExcludeGIDs = []string{}
	}), testEnvironment},
	{"egress", "what a pod calls is counted by user, and named", Config{Mode: ModeEgress}, watchedEnvironment},
	{"egress-old", "a kernel that reads no data behind headers, a small MTU, cgroups", Config{Mode: ModeEgress, IPv6: "disabled",
		Watch: Watch{By: "cgroup", CgroupLevel: "3", Resolvers: []string{"192.0.2.53"}}}, Environment{MTU: 576}},
	{"egress-counts", "nothing is copied, and room is made for more", Config{Mode: ModeEgress, Watch: Watch{Names: []string{"none"}, Size: "65536"}}, watchedEnvironment},
	{"egress-node", "a node counts what it forwards, by pod", Config{Mode: ModeEgress, Watch: Watch{By: "pod"}}, watchedEnvironment},
	{"ambient-host", "probes are what the host itself opens", host(func(*Config) {}), testEnvironment},
	{"ambient-host-old", "where postrouting does not tell how a packet came in, and there is no IPv6", host(func(*Config) {}), Environment{}},
	{"ambient-host-uids", "probes are what a user opens", host(func(c *Config) {
		c.Probes = Probes{Addresses: []string{"192.0.2.1"}, From: "uids", UIDs: []string{"nobody", "0"}}
	}), testEnvironment},
	{"ambient-host-cgroups", "probes are what cgroups open", host(func(c *Config) {
		c.Probes.From, c.Probes.Cgroups, c.Probes.Mark = "cgroups", []string{"/kubelet.slice/", "system.slice/kubelet.service"}, "0x20/0xf0"
	}), testEnvironment},
	{"ambient-constants", "another mesh's marks, ports, addresses and routing", ambient(func(c *Config) {
		c.Proxy.Mark = "0x20/0xf0"
		c.Inbound.Port, c.Inbound.TunnelPort, c.Outbound.Port = "4143", "4190", "4140"
		c.DNS = DNS{Capture: "all", Port: "5300"}
		c.Probes.Addresses = []string{"192.0.2.1"}
		c.Routing = Routing{Mark: "0x1", Table: "200", Priority: "100"}
	}), testEnvironment},
}

// untracked is the least configuration without connection tracking, changed.
func untracked(change func(*Config)) Config {
	c := Config{Mode: ModeSidecar, Conntrack: "none", Proxy: Proxy{Mark: "0x53d/0xfff"}, Inbound: Inbound{Via: "tproxy"}, Outbound: Outbound{Via: "tproxy"}}
	change(&c)
	return c
}

// ambient is the least configuration of an ambient pod, changed.
func ambient(change func(*Config)) Config {
	c := Config{Mode: ModeAmbientPod}
	change(&c)
	return c
}

// host is the least configuration of an ambient host, changed.
func host(change func(*Config)) Config {
	c := Config{Mode: ModeAmbientHost}
	change(&c)
	return c
}

func TestGoldens(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			state, _, err := State(g.config, g.env)
			if err != nil {
				t.Fatal(err)
			}
			got := []byte("# " + g.why + "\n" + state.String())
			file := filepath.Join("testdata", g.name+".nft")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v (go test ./modes -update writes it)", err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what the configuration makes now:\n%s\ngo test ./modes -update writes it anew; git diff shows what changed", file, got)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.nft")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".nft")
		if !slices.ContainsFunc(goldens, func(g golden) bool { return g.name == name }) {
			t.Errorf("%s is not a configuration's", f)
		}
	}
}

// TestGoldensLoad has nft itself load each golden, twice, in a namespace of its
// own: the second time must be as good as the first.
func TestGoldensLoad(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("nft is not installed here")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("unshare is not installed here")
	}
	if os.Getuid() != 0 {
		t.Skip("only root loads rulesets of other users' numbers")
	}
	for _, g := range goldens {
		if len(g.config.Probes.Cgroups) > 0 {
			continue // nft wants the path of a cgroup, and looks up its id when it loads
		}
		file := filepath.Join("testdata", g.name+".nft")
		out, err := exec.Command(unshare, "--net", "sh", "-c", `"$0" -f "$1" && "$0" -f "$1"`, nft, file).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// TestReasons asks that every rule says why it is there, in a sentence that fits
// into the kernel's comment and reads like the others.
func TestReasons(t *testing.T) {
	for _, g := range goldens {
		state, _, err := State(g.config, g.env)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range state.Table.Chains {
			for i, r := range c.Rules {
				switch {
				case r.Reason == "":
					t.Errorf("%s: chain %s rule %d has no reason", g.name, c.Name, i+1)
				case len(r.Reason) > 128:
					t.Errorf("%s: %q is too long for the kernel", g.name, r.Reason)
				case strings.HasSuffix(r.Reason, "."):
					t.Errorf("%s: %q ends in a full stop", g.name, r.Reason)
				}
			}
		}
	}
}

// TestSetsAndChainsAreUsed asks that no golden declares a set or a chain that no rule
// reads, but for live sets, which are kept for later rules.
func TestSetsAndChainsAreUsed(t *testing.T) {
	for _, g := range goldens {
		state, _, err := State(g.config, g.env)
		if err != nil {
			t.Fatal(err)
		}
		text := state.String()
		for _, s := range state.Table.Sets {
			if !s.Live && !strings.Contains(text, "@"+s.Name+" ") {
				t.Errorf("%s: no rule reads the set %s", g.name, s.Name)
			}
		}
		for _, c := range state.Table.Chains {
			if c.Base == nil && !strings.Contains(text, "jump "+c.Name+" ") && !strings.Contains(text, "goto "+c.Name+" ") {
				t.Errorf("%s: no rule goes to the chain %s", g.name, c.Name)
			}
		}
	}
}

// TestEveryKeyHasAGolden asks that no key is without a ruleset that shows it.
func TestEveryKeyHasAGolden(t *testing.T) {
	for _, k := range Keys() {
		if slices.Contains([]string{"version", "table", "ipv6", "inbound.port", "inbound.tunnelPort", "outbound.port",
			"dns.port", "dns.servers", "loopback.passthrough"}, k.Path) {
			continue // TestKeysThatAreOneWordOfTheRuleset shows these
		}
		shown := false
		for _, g := range goldens {
			_, set := k.Get(&g.config)
			shown = shown || set
		}
		if !shown {
			t.Errorf("no golden sets %s", k.Path)
		}
	}
}

func TestKeysThatAreOneWordOfTheRuleset(t *testing.T) {
	for _, tt := range []struct {
		why    string
		config Config
		want   []string
		not    []string
	}{
		{"the table has the name that was asked for", with(func(c *Config) { c.Table = "mesh" }),
			[]string{"delete table inet mesh\n", "table inet mesh {"}, []string{"inet weir"}},
		{"the listeners have the ports that were asked for", with(func(c *Config) { c.Inbound.Port, c.Outbound.Port = "4143", "4140" }),
			[]string{"redirect to :4143", "redirect to :4140"}, []string{":15001", ":15006"}},
		{"the tunnel listener is reached as it is", with(func(c *Config) { c.Inbound.TunnelPort = "4190" }),
			[]string{"tcp dport 4190", "tcp dport != 4190"}, []string{"15008"}},
		{"queries go to the port that was asked for", with(func(c *Config) { c.DNS = DNS{Capture: "all", Port: "5300"} }),
			[]string{"udp dport 53 counter redirect to :5300", "udp sport 5300 ip daddr != 127.0.0.0/8 meta skuid @proxy_uids counter ct zone set 2"}, []string{"15053"}},
		{"the servers that were asked for are those that count", with(func(c *Config) { c.DNS = DNS{Capture: "servers", Servers: []string{"192.0.2.53"}} }),
			[]string{"192.0.2.53"}, []string{"10.96.0.10"}},
		{"passthrough addresses of IPv6 are added to lo", with(func(c *Config) { c.Loopback.Passthrough = []string{"127.0.0.7", "::7", "::1"} }),
			[]string{"ip saddr 127.0.0.7", "# ip address add ::7/128 dev lo nodad"}, []string{"::6", "add ::1/128"}},
		{"no passthrough address, no rule", with(func(c *Config) { c.Loopback.Passthrough = []string{} }),
			nil, []string{"passthrough", "::6"}},
		{"no IPv6, no address for it", with(func(c *Config) { c.IPv6 = "disabled" }),
			[]string{"meta nfproto ipv6 counter return"}, []string{"ip address add", "::6"}},
		{"IPv6 that was asked for needs no detection", with(func(c *Config) { c.IPv6 = "enabled" }),
			[]string{"ip6 daddr"}, []string{"IPv6 is off"}},
	} {
		state, _, err := State(tt.config, testEnvironment)
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		text := state.String()
		for _, w := range tt.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: there is no %q in\n%s", tt.why, w, text)
			}
		}
		for _, w := range tt.not {
			if strings.Contains(text, w) {
				t.Errorf("%s: there is %q in\n%s", tt.why, w, text)
			}
		}
	}
}

// TestOrderOfListsDoesNotMatter has two exceptions: the first resolver is the one that a
// listener for the pod alone answers for, and of several users, the first
// one's calls to its own pod are captured.
func TestOrderOfListsDoesNotMatter(t *testing.T) {
	for _, g := range goldens {
		turned := g.config
		for _, k := range Keys() {
			if words, set := k.Get(&turned); set && k.List && k.Path != "proxy.uids" && k.Path != "dns.servers" {
				words = slices.Clone(words)
				slices.Reverse(words)
				items := []map[string][]string{}
				if len(k.Items) > 0 {
					items, words = k.GetItems(&turned), nil
				}
				k.Set(&turned, words...)
				for _, item := range slices.Backward(items) {
					k.AddItem(&turned, item)
				}
			}
		}
		a, _, err := State(g.config, g.env)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := State(turned, g.env)
		if err != nil {
			t.Fatal(err)
		}
		if a.Normal().String() != b.Normal().String() {
			t.Errorf("%s: lists turned round make another ruleset:\n%s\n%s", g.name, a, b)
		}
	}
}
