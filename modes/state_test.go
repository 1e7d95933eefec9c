// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// least is the least configuration of a sidecar.
func least() Config {
	return Config{Mode: ModeSidecar, Proxy: Proxy{UIDs: []string{"1337"}}}
}

// with is the least configuration, changed.
func with(change func(*Config)) Config {
	c := least()
	change(&c)
	return c
}

var testEnvironment = Environment{
	IPv6:         true,
	LoopbackIPv6: true,
	Resolvers:    []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::10")},
	Users:        map[string]uint32{"envoy": 1337, "nobody": 65534},
	Groups:       map[string]uint32{"mesh": 1337, "staff": 50},

	PostroutingInput: true,
	Cgroups:          map[string]uint64{"kubelet.slice": 77, "system.slice/kubelet.service": 4711},
}

// lines are the parts of a joined error.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		why    string
		config Config
		want   []string
	}{
		{"the least configuration is complete", least(), nil},
		{"mode none needs nothing", Config{Mode: ModeNone}, nil},
		{"nothing at all lacks a mode", Config{}, []string{`mode: is missing (want sidecar, ambient-pod, ambient-host, egress or none)`}},
		{"a misspelt mode is told the nearest", Config{Mode: "sidcar"}, []string{`mode: "sidcar" is not a mode (did you mean sidecar?)`}},
		{"a mode like no other is told them all", Config{Mode: "bridge-everything"}, []string{`mode: "bridge-everything" is not a mode (want sidecar, ambient-pod, ambient-host, egress or none)`}},
		{"without a mode the words are read all the same", Config{Outbound: Outbound{Port: "x"}, Inbound: Inbound{Via: "tproxi", ExcludePorts: []PortWord{"0"}}}, []string{
			`mode: is missing (want sidecar, ambient-pod, ambient-host, egress or none)`,
			`inbound.via: "tproxi" is not one of: redirect, tproxy, marks, none`,
			`inbound.excludePorts: "0" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`outbound.port: "x" is not a port (want a number of 1-65535, or a range that the proxy listens on)`,
		}},
		{"and so they are with a misspelt one", Config{Mode: "ambient-hots", Probes: Probes{Mark: "red"}}, []string{
			`mode: "ambient-hots" is not a mode (did you mean ambient-host?)`,
			`probes.mark: "red" is not a mark (want a number such as 0x539 or 0x539/0xfff)`,
		}},
		{"a later version may mean other things", with(func(c *Config) { c.Version = "2" }), []string{`version: "2" is not known (want 1)`}},
		{"a mode says which keys it cannot use, and who can", Config{Mode: ModeNone, IPv6: "auto", Proxy: Proxy{UIDs: []string{}}}, []string{
			`ipv6: is not used by mode none (it is by sidecar, ambient-pod, ambient-host, egress)`,
			`proxy.uids: is not used by mode none (it is by sidecar)`,
		}},

		{"a table name begins with a letter", with(func(c *Config) { c.Table = "1weir" }),
			[]string{`table: "1weir" is not a table name (want a letter, then at most 30 letters, digits, '_' or '-')`}},
		{"a table name holds no blank, which would need quotes in nft text", with(func(c *Config) { c.Table = "my weir" }),
			[]string{`table: "my weir" is not a table name (want a letter, then at most 30 letters, digits, '_' or '-')`}},
		{"a table name has at most 31 bytes", with(func(c *Config) { c.Table = strings.Repeat("w", 32) }),
			[]string{`table: "` + strings.Repeat("w", 32) + `" is not a table name (want a letter, then at most 30 letters, digits, '_' or '-')`}},
		{"a table name of 31 bytes is long enough", with(func(c *Config) { c.Table = strings.Repeat("w", 31) }), nil},
		{"make before break needs the name -next", with(func(c *Config) { c.Table = "weir-next" }),
			[]string{`table: "weir-next" is taken: weir uses names that end in -next and -lock while it applies`}},
		{"the lock needs the name -lock", with(func(c *Config) { c.Table = "weir-lock" }),
			[]string{`table: "weir-lock" is taken: weir uses names that end in -next and -lock while it applies`}},

		{"in ambient mode the proxy is known by a mark, and needs none written", Config{Mode: ModeAmbientPod}, nil},
		{"an ambient proxy has a mark", Config{Mode: ModeAmbientPod, Proxy: Proxy{Mark: "none", UIDs: []string{"1337"}}}, []string{
			`proxy.uids: is not used by mode ambient-pod (it is by sidecar)`,
			`proxy.mark: "none" is not a mark (want a number such as 0x539 or 0x539/0xfff)`}},
		{"an ambient pod has no transparent listener, and no list of resolvers", Config{Mode: ModeAmbientPod, Inbound: Inbound{Via: "tproxy"}, DNS: DNS{Capture: "servers"}}, []string{
			`inbound.via: "tproxy" is not one of: redirect, none`,
			`dns.capture: "servers" is not one of: none, all`}},
		{"a connection's mark is none of the proxy's packets", Config{Mode: ModeAmbientPod, Routing: Routing{Mark: "0x39/0xff"}},
			[]string{`routing.mark: "0x39/0xff" does not tell its packets from those of proxy.mark, 0x539/0xfff`}},
		{"a connection's mark under a wider mask may hold the proxy's", Config{Mode: ModeAmbientPod, Routing: Routing{Mark: "0x1539/0xffff"}},
			[]string{`routing.mark: "0x1539/0xffff" does not tell its packets from those of proxy.mark, 0x539/0xfff`}},
		{"probes have one address of each family", Config{Mode: ModeAmbientPod, Probes: Probes{Addresses: []string{"192.0.2.1", "fd00::1", "192.0.2.2"}}},
			[]string{`probes.addresses: "192.0.2.2" is a second address of ipv4 (want one at most)`}},
		{"probes come from somewhere", host(func(c *Config) { c.Probes.Addresses = []string{"0.0.0.0", "ff02::1"} }), []string{
			`probes.addresses: "0.0.0.0" is not an address that packets can come from`,
			`probes.addresses: "ff02::1" is not an address that packets can come from`}},

		{"on the host nothing need be written", host(func(*Config) {}), nil},
		{"probes need an address", host(func(c *Config) { c.Probes.Addresses = []string{} }),
			[]string{"probes.addresses: is empty: probes would have no source (want one address of each family)"}},
		{"users are of use where they tell probes", host(func(c *Config) { c.Probes.UIDs = []string{"0"} }),
			[]string{"probes.uids: is used only with probes.from: uids"}},
		{"probes that users tell need one", host(func(c *Config) { c.Probes.From = "uids" }),
			[]string{"probes.uids: is empty, and probes.from: uids wants it"}},
		{"cgroups are there, by a path", host(func(c *Config) {
			c.Probes.From, c.Probes.Cgroups = "cgroups", []string{"kubelet.slice", "a/../b", "/"}
		}), []string{
			`probes.cgroups: "a/../b" is not the path of a cgroup (want such as kubelet.slice/kubelet.service)`,
			`probes.cgroups: "/" is not the path of a cgroup (want such as kubelet.slice/kubelet.service)`}},
		{"a mark is not a cgroup's where there is none", host(func(c *Config) { c.Probes.From = "pods" }),
			[]string{`probes.from: "pods" is not one of: local, uids, cgroups`}},

		{"a proxy that nothing tells apart would be captured itself", Config{Mode: ModeSidecar},
			[]string{`proxy: needs uids, gids or a mark: without one the proxy's own traffic would be captured in a loop`}},
		{"uids: none tells nothing apart", Config{Mode: ModeSidecar, Proxy: Proxy{UIDs: []string{"none"}, GIDs: []string{}, Mark: "off"}},
			[]string{`proxy: needs uids, gids or a mark: without one the proxy's own traffic would be captured in a loop`}},
		{"a group is enough", Config{Mode: ModeSidecar, Proxy: Proxy{GIDs: []string{"1337"}}}, nil},
		{"a mark is enough", Config{Mode: ModeSidecar, Proxy: Proxy{Mark: "0x539/0xfff"}}, nil},
		{"names are looked up in the environment", with(func(c *Config) { c.Proxy = Proxy{UIDs: []string{"envoy"}, GIDs: []string{"mesh"}} }), nil},
		{"a user that is not known", with(func(c *Config) { c.Proxy.UIDs = []string{"proxyy"} }),
			[]string{`proxy.uids: "proxyy" is neither a number nor a user known here`}},
		{"a user's name is not a group's", with(func(c *Config) { c.Proxy.GIDs = []string{"envoy"} }),
			[]string{`proxy.gids: "envoy" is neither a number nor a group known here`}},
		{"4294967295 is -1 to the kernel, and names no user", with(func(c *Config) { c.Proxy.UIDs = []string{"4294967295"} }),
			[]string{`proxy.uids: "4294967295" is not a user id (want 0-4294967294, or a range such as 1000-2000)`}},
		{"an id has 32 bits", with(func(c *Config) { c.Proxy.GIDs = []string{"4294967296"} }),
			[]string{`proxy.gids: "4294967296" is not a group id (want 0-4294967294, or a range such as 1000-2000)`}},
		{"a leading zero is octal to some and nothing to others", with(func(c *Config) { c.Proxy.UIDs = []string{"02471"} }),
			[]string{`proxy.uids: "02471" is not a user id (want 0-4294967294, or a range such as 1000-2000)`}},
		{"a mark without bits is every packet's", with(func(c *Config) { c.Proxy.Mark = "0" }),
			[]string{`proxy.mark: "0" is what packets without a mark have (want a number that is not 0)`}},
		{"a mark of no bits under its mask is every packet's", with(func(c *Config) { c.Proxy.Mark = "0x0/0xfff" }),
			[]string{`proxy.mark: "0x0/0xfff" is what packets without a mark have (want a number that is not 0)`}},
		{"bits outside the mask can never match", with(func(c *Config) { c.Proxy.Mark = "0x1539/0xfff" }),
			[]string{`proxy.mark: "0x1539/0xfff" has bits outside its mask: it never matches`}},
		{"a mask of no bits tells nothing", with(func(c *Config) { c.Proxy.Mark = "0x539/0" }),
			[]string{`proxy.mark: "0x539/0" is not a mark (want a number such as 0x539 or 0x539/0xfff)`}},
		{"a mark is a number", with(func(c *Config) { c.Proxy.Mark = "proxy" }),
			[]string{`proxy.mark: "proxy" is not a mark (want a number such as 0x539 or 0x539/0xfff)`}},
		{"a mark has 32 bits", with(func(c *Config) { c.Proxy.Mark = "0x100000000" }),
			[]string{`proxy.mark: "0x100000000" is not a mark (want a number such as 0x539 or 0x539/0xfff)`}},

		{"ports end at 65535", with(func(c *Config) { c.Outbound.ExcludePorts = []PortWord{"22", "70000"} }),
			[]string{`outbound.excludePorts: "70000" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`}},
		{"port 0 is no one's", with(func(c *Config) { c.Inbound.Port, c.Inbound.ExcludePorts = "0", []PortWord{"0"} }), []string{
			`inbound.port: "0" is not a port (want a number of 1-65535, or a range that the proxy listens on)`,
			`inbound.excludePorts: "0" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
		}},
		{"a range goes up", with(func(c *Config) { c.Inbound.IncludePorts = []PortWord{"8100-8000"} }),
			[]string{`inbound.includePorts: "8100-8000" is a reversed range (want 8000-8100)`}},
		{"a range may begin at 0, which is a port of packets", with(func(c *Config) { c.Inbound.IncludePorts = []PortWord{"0-80", ":90"} }), nil},
		{"a range with a colon may have one end, and no more", with(func(c *Config) { c.Inbound.IncludePorts = []PortWord{"90:", ":"} }),
			[]string{`inbound.includePorts: ":" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`}},
		{"a range has two ends", with(func(c *Config) { c.Inbound.IncludePorts = []PortWord{"80-"} }),
			[]string{`inbound.includePorts: "80-" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`}},
		{"services have names", with(func(c *Config) { c.Outbound.IncludePorts = []PortWord{"https", "ftp-data-ssh", "http-alt"} }), nil},
		{"and not any", with(func(c *Config) { c.Outbound.IncludePorts = []PortWord{"web", "HTTP"} }), []string{
			`outbound.includePorts: "web" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`outbound.includePorts: "HTTP" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`}},
		{"a listener may have a range of ports", with(func(c *Config) { c.Inbound.Port, c.Outbound.Port = "15006-15008", "15001:15003" }), nil},
		{"but one by tproxy", with(func(c *Config) { c.Inbound.Via, c.Inbound.Port = "tproxy", "15006-15008" }),
			[]string{`inbound.port: "15006-15008" is not one port, and with tproxy a connection goes to one (want a number of 1-65535)`}},
		{"what is not a port is told once", with(func(c *Config) { c.Inbound.Via, c.Inbound.Port = "tproxy", Port(0) }),
			[]string{`inbound.port: "0" is not a port (want a number of 1-65535, or a range that the proxy listens on)`}},
		{"nor none by tproxy", with(func(c *Config) { c.Inbound.Via, c.Inbound.Port = "tproxy", "0-0" }),
			[]string{`inbound.port: "0-0" is not one port, and with tproxy a connection goes to one (want a number of 1-65535)`}},
		{"users and groups come in ranges", with(func(c *Config) {
			c.Proxy = Proxy{UIDs: []string{"1337", "2000-2010"}, GIDs: []string{"0-4294967294"}}
			c.Outbound.IncludeGIDs, c.Outbound.ExcludeGIDs, c.Outbound.ExcludeUIDs = []string{"1-2"}, []string{"3-4"}, []string{"5-6"}
		}), nil},
		{"of ids that there are", with(func(c *Config) { c.Proxy.UIDs = []string{"2000-1000", "1-4294967295", "1000-x", "-1"} }), []string{
			`proxy.uids: "2000-1000" is a reversed range (want 1000-2000)`,
			`proxy.uids: "1-4294967295" is not a user id (want 0-4294967294, or a range such as 1000-2000)`,
			`proxy.uids: "1000-x" is not a user id (want 0-4294967294, or a range such as 1000-2000)`,
			`proxy.uids: "-1" is not a user id (want 0-4294967294, or a range such as 1000-2000)`}},
		{"a port is decimal", with(func(c *Config) { c.DNS.Port = "0x35" }), []string{`dns.port: "0x35" is not a port (want a number of 1-65535)`}},
		{"numbers have no underscores", with(func(c *Config) { c.Outbound.Port = "15_001" }), []string{`outbound.port: "15_001" is not a port (want a number of 1-65535, or a range that the proxy listens on)`}},
		{"numbers have no leading zero", with(func(c *Config) { c.Outbound.Port = "0123" }), []string{`outbound.port: "0123" is not a port (want a number of 1-65535, or a range that the proxy listens on)`}},
		{"iptables writes a range with a colon", with(func(c *Config) { c.Outbound.ExcludePorts = []PortWord{"8000:8100"} }), nil},
		{"all stands alone", with(func(c *Config) { c.Inbound.IncludePorts = []PortWord{"80", "all"} }),
			[]string{`inbound.includePorts: "all" stands beside other words (want it alone, or a list without it)`}},
		{"none stands alone", with(func(c *Config) { c.Outbound.IncludeCIDRs = []string{"none", "10.0.0.0/8"} }),
			[]string{`outbound.includeCIDRs: "none" stands beside other words (want it alone, or a list without it)`}},
		{"who excludes everything means no capture", with(func(c *Config) { c.Outbound.ExcludePorts, c.Inbound.ExcludePorts = []PortWord{"all"}, []PortWord{"*"} }), []string{
			`inbound.excludePorts: "*" would leave everything alone (want inbound.via: none for that)`,
			`outbound.excludePorts: "all" would leave everything alone (want outbound.via: none for that)`,
		}},
		{"a port cannot be both included and excluded", with(func(c *Config) {
			c.Outbound.IncludePorts, c.Outbound.ExcludePorts = []PortWord{"443", "8080"}, []PortWord{"22", "8080"}
		}), []string{`outbound.excludePorts: "8080" is in outbound.includePorts too`}},
		{"nor can a part of a range", with(func(c *Config) {
			c.Inbound.IncludePorts, c.Inbound.ExcludePorts = []PortWord{"9000", "8000-8100"}, []PortWord{"8050", "8100-8200", "80"}
		}), []string{
			`inbound.excludePorts: "8050" overlaps "8000-8100" of inbound.includePorts`,
			`inbound.excludePorts: "8100-8200" overlaps "8000-8100" of inbound.includePorts`,
		}},

		{"a direction that captures nothing says so itself", with(func(c *Config) {
			c.Inbound.IncludePorts, c.Outbound.IncludeCIDRs = []PortWord{}, []string{"none"}
		}), []string{
			`inbound.includePorts: captures nothing (want ports, all, or inbound.via: none)`,
			`outbound.includeCIDRs: captures nothing (want prefixes, all, or outbound.via: none)`,
		}},
		{"none is an empty list", with(func(c *Config) { c.Inbound.IncludePorts = []PortWord{"none"} }),
			[]string{`inbound.includePorts: captures nothing (want ports, all, or inbound.via: none)`}},
		{"included ports capture without any prefix", with(func(c *Config) {
			c.Outbound.IncludeCIDRs, c.Outbound.IncludePorts = []string{}, []PortWord{"443"}
		}), nil},
		{"no group is captured", with(func(c *Config) { c.Outbound.IncludeGIDs = []string{} }),
			[]string{`outbound.includeGIDs: captures nothing (want groups, all, or outbound.via: none)`}},
		{"no group, but what is rerouted has none", with(func(c *Config) {
			c.Outbound.IncludeGIDs, c.Interfaces.Reroute = []string{}, []Rerouted{{Name: "tap0"}}
		}), nil},
		{"what is off may include nothing", with(func(c *Config) {
			c.Inbound.Via, c.Inbound.IncludePorts = "none", []PortWord{}
			c.Outbound.Via, c.Outbound.IncludeCIDRs, c.Outbound.IncludeGIDs = "none", []string{}, []string{}
		}), nil},

		{"a prefix has at most as many bits as its family", with(func(c *Config) { c.Outbound.ExcludeCIDRs = []string{"10.0.0.0/33"} }),
			[]string{`outbound.excludeCIDRs: "10.0.0.0/33" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`}},
		{"a name is not an address", with(func(c *Config) { c.Outbound.IncludeCIDRs = []string{"example.com"} }),
			[]string{`outbound.includeCIDRs: "example.com" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`}},
		{"no packet's IPv6 address is an IPv4-mapped one", with(func(c *Config) {
			c.Outbound.ExcludeCIDRs, c.Loopback.Passthrough = []string{"::ffff:10.0.0.0/104", "::ffff:192.0.2.1"}, []string{"::ffff:127.0.0.6"}
		}), []string{
			`outbound.excludeCIDRs: "::ffff:10.0.0.0/104" is an IPv4-mapped address (write it as IPv4)`,
			`outbound.excludeCIDRs: "::ffff:192.0.2.1" is an IPv4-mapped address (write it as IPv4)`,
			`loopback.passthrough: "::ffff:127.0.0.6" is an IPv4-mapped address (write it as IPv4)`,
		}},
		{"a zone is of one machine's interfaces, and no packet has it", with(func(c *Config) {
			c.Outbound.ExcludeCIDRs = []string{"fe80::1%eth0"}
			c.DNS = DNS{Capture: "servers", Servers: []string{"fe80::1%eth0"}}
		}), []string{
			`outbound.excludeCIDRs: "fe80::1%eth0" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`,
			`dns.servers: "fe80::1%eth0" is not an address (want 192.0.2.1 or 2001:db8::1)`,
		}},
		{"a server is not a prefix", with(func(c *Config) { c.DNS = DNS{Capture: "servers", Servers: []string{"10.0.0.0/8"}} }),
			[]string{`dns.servers: "10.0.0.0/8" is not an address (want 192.0.2.1 or 2001:db8::1)`}},
		{"servers say nothing where all queries are captured", with(func(c *Config) { c.DNS = DNS{Capture: "all", Servers: []string{"10.0.0.1"}} }),
			[]string{`dns.servers: is used only with dns.capture: servers`}},
		{"no servers are none given", with(func(c *Config) { c.DNS.Servers = []string{} }), nil},

		{"an interface name has at most 15 bytes", with(func(c *Config) { c.Interfaces.Exclude = []string{"abcdefghijklmnop"} }),
			[]string{`interfaces.exclude: "abcdefghijklmnop" is 16 bytes long (an interface name has at most 15)`}},
		{"a wildcard's stem too", with(func(c *Config) {
			c.Interfaces.Exclude = []string{"abcdefghijklmn*", "abcdefghijklmno*", "abcdefghijklmnop*"}
		}),
			[]string{`interfaces.exclude: "abcdefghijklmno*" is too long for a wildcard (want the name itself, or at most 14 bytes before the asterisk)`,
				`interfaces.exclude: "abcdefghijklmnop*" is 16 bytes long (an interface name has at most 15)`}},
		{"an interface's exclusions count, or do not", with(func(c *Config) { c.Interfaces.Reroute = []Rerouted{{Name: "tap0", Exclusions: "some"}, {Name: "a/b"}} }), []string{
			`interfaces.reroute: "a/b" is not an interface name`,
			`interfaces.reroute.exclusions: "some" is not one of: honoured, ignored`}},
		{"not both", with(func(c *Config) {
			c.Interfaces.Reroute = []Rerouted{{Name: "tap0"}, {Name: "tap0", Exclusions: "ignored"}, {Name: "tap*", Exclusions: "ignored"}}
		}),
			[]string{`interfaces.reroute: "tap0" is listed twice, with other exclusions`}},
		{"twice alike is once", with(func(c *Config) {
			c.Interfaces.Reroute = []Rerouted{{Name: "tap0"}, {Name: "tap0", Exclusions: "honoured"}}
		}), nil},
		{"none is rerouted", with(func(c *Config) { c.Interfaces.Reroute = []Rerouted{{Name: "none"}} }), nil},
		{"every interface may be meant", with(func(c *Config) { c.Interfaces.Exclude = []string{"+"} }), nil},
		{"a star stands at the end", with(func(c *Config) { c.Interfaces.Exclude = []string{"e*h0"} }),
			[]string{`interfaces.exclude: "e*h0" is not an interface name (a wildcard is a name that ends in *, such as eth*)`}},
		{"names that the kernel refuses", with(func(c *Config) { c.Interfaces.Exclude = []string{"..", "a/b", "eth0:1", "a b", `a"b`} }), []string{
			`interfaces.exclude: ".." is not an interface name`, `interfaces.exclude: "a/b" is not an interface name`,
			`interfaces.exclude: "eth0:1" is not an interface name`, `interfaces.exclude: "a b" is not an interface name`,
			`interfaces.exclude: "a\"b" is not an interface name`,
		}},
		{"iptables writes a wildcard with a plus", with(func(c *Config) { c.Interfaces.Exclude = []string{"veth+"} }), nil},

		{"a loopback prefix is of 127.0.0.0/8", with(func(c *Config) { c.Loopback.CIDR = "10.0.0.0/8" }),
			[]string{`loopback.cidr: "10.0.0.0/8" is not an IPv4 loopback prefix (want one within 127.0.0.0/8)`}},
		{"and no wider", with(func(c *Config) { c.Loopback.CIDR = "127.0.0.0/7" }),
			[]string{`loopback.cidr: "127.0.0.0/7" is not an IPv4 loopback prefix (want one within 127.0.0.0/8)`}},
		{"and IPv4", with(func(c *Config) { c.Loopback.CIDR = "::1/128" }),
			[]string{`loopback.cidr: "::1/128" is not an IPv4 loopback prefix (want one within 127.0.0.0/8)`}},
		{"and there is one", with(func(c *Config) { c.Loopback.CIDR = "none" }),
			[]string{`loopback.cidr: "none" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`}},
		{"all of 127.0.0.0/8 may be loopback", with(func(c *Config) { c.Loopback.CIDR = "127.0.0.0/8" }), nil},

		{"mark 0 would deliver every packet to lo", with(func(c *Config) { c.Routing.Mark = "0" }),
			[]string{`routing.mark: "0" is what packets without a mark have (want a number that is not 0)`}},
		{"a mark has its own mask where one is written", with(func(c *Config) { c.Routing.Mark, c.Routing.LoopMark = "0x1539/0xffff", "0x53a/0xfff" }), nil},
		{"marks without one are under the common mask, all of them", with(func(c *Config) {
			c.Proxy.Mark, c.Routing.Mark, c.Routing.LoopMark = "0x10000", "0x1539", "5434"
		}), []string{
			`proxy.mark: "0x10000" has bits outside its mask, 0xfff of routing.mask: it never matches (want a mask that holds them, such as 0x10000/0x10fff)`,
			`routing.mark: "0x1539" has bits outside its mask, 0xfff of routing.mask: it never matches (want a mask that holds them, such as 0x1539/0x1fff)`,
			`routing.loopMark: "5434" has bits outside its mask, 0xfff of routing.mask: it never matches (want a mask that holds them, such as 5434/0x1fff)`,
		}},
		{"another common mask holds other marks", with(func(c *Config) {
			c.Proxy.Mark, c.Routing = "0x10000", Routing{Mark: "0x20000", LoopMark: "0x30000", Mask: "0xff0000"}
		}), nil},
		{"and not the defaults", with(func(c *Config) { c.Routing.Mask = "0xff0000" }), []string{
			`routing.mark: "0x539" has bits outside its mask, 0xff0000 of routing.mask: it never matches (want a mask that holds them, such as 0x539/0xff0539)`,
			`routing.loopMark: "0x53a" has bits outside its mask, 0xff0000 of routing.mask: it never matches (want a mask that holds them, such as 0x53a/0xff053a)`,
		}},
		{"in ambient mode too", Config{Mode: ModeAmbientPod, Proxy: Proxy{Mark: "0x1539"}, Routing: Routing{Mark: "0x1000"}}, []string{
			`proxy.mark: "0x1539" has bits outside its mask, 0xfff of routing.mask: it never matches (want a mask that holds them, such as 0x1539/0x1fff)`,
			`routing.mark: "0x1000" has bits outside its mask, 0xfff of routing.mask: it never matches (want a mask that holds them, such as 0x1000/0x1fff)`,
		}},
		{"a mask has bits", with(func(c *Config) { c.Routing.Mask = "0" }),
			[]string{`routing.mask: "0" is not a mask of mark bits (want a number such as 0xfff, or 0xffffffff for whole marks)`}},
		{"a mask is a number", with(func(c *Config) { c.Routing.Mask = "none" }),
			[]string{`routing.mask: "none" is not a mask of mark bits (want a number such as 0xfff, or 0xffffffff for whole marks)`}},
		{"a mask has at most 32 bits", Config{Mode: ModeAmbientPod, Routing: Routing{Mask: "0x1ffffffff"}},
			[]string{`routing.mask: "0x1ffffffff" is not a mask of mark bits (want a number such as 0xfff, or 0xffffffff for whole marks)`}},
		{"the two marks tell two things apart", with(func(c *Config) { c.Routing.Mark, c.Routing.LoopMark = "1337", "0x539" }),
			[]string{`routing.loopMark: "0x539" does not tell its packets from those of routing.mark, 1337 (want another)`}},
		{"a mark may equal the other's default", with(func(c *Config) { c.Routing.Mark = "1338" }),
			[]string{`routing.loopMark: "0x53a" does not tell its packets from those of routing.mark, 1338 (want another)`}},
		{"nor hold it under a narrower mask", with(func(c *Config) { c.Routing.LoopMark = "0x39/0xff" }),
			[]string{`routing.loopMark: "0x39/0xff" does not tell its packets from those of routing.mark, 0x539 (want another)`}},
		{"the system's tables are not ours", with(func(c *Config) { c.Routing.Table = "254" }), []string{`routing.table: "254" is one of the system's own tables`}},
		{"nor is the local one, but by its name", with(func(c *Config) { c.Routing.Table = "255" }), []string{`routing.table: "255" is one of the system's own tables`}},
		{"there may be none", with(func(c *Config) { c.Inbound.Via, c.Routing.Table = "tproxy", "none" }), nil},
		{"mark 0 is meant where its mask is written", with(func(c *Config) { c.Inbound.Via, c.Routing.Mark = "tproxy", "0/0xffffffff" }), nil},
		{"but for the proxy", with(func(c *Config) { c.Proxy.Mark = "0/0xffffffff" }),
			[]string{`proxy.mark: "0/0xffffffff" is what packets without a mark have (want a number that is not 0)`}},
		{"table 0 is not a table", with(func(c *Config) { c.Routing.Table = "0" }), []string{`routing.table: "0" is not a whole number from 1 to 4294967295`}},
		{"priority 0 is that of the local table", with(func(c *Config) { c.Routing.Priority = "0" }), []string{`routing.priority: "0" is neither auto nor a whole number from 1 to 32765`}},

		{"a word that is not allowed is told all that are", with(func(c *Config) { c.Inbound.Via, c.IPv6 = "iptables", "maybe" }), []string{
			`ipv6: "maybe" is not one of: auto, enabled, disabled`,
			`inbound.via: "iptables" is not one of: redirect, tproxy, marks, none`,
		}},
		{"a word that could mean two things means none", with(func(c *Config) { c.Inbound.Via, c.DNS.Capture = "true", "on" }), []string{
			`inbound.via: "true" is not one of: redirect, tproxy, marks, none`,
			`dns.capture: "on" is not one of: none, servers, all`,
		}},
		{"every problem is told at once", Config{Version: "3", Mode: ModeSidecar, Table: "?", DropInvalid: "perhaps", Outbound: Outbound{Port: "x"}}, []string{
			`version: "3" is not known (want 1)`,
			`table: "?" is not a table name (want a letter, then at most 30 letters, digits, '_' or '-')`,
			`proxy: needs uids, gids or a mark: without one the proxy's own traffic would be captured in a loop`,
			`outbound.port: "x" is not a port (want a number of 1-65535, or a range that the proxy listens on)`,
			`dropInvalid: "perhaps" is not one of: disabled, enabled`,
		}},
		{"a very long word is not repeated whole", with(func(c *Config) { c.Inbound.Via = strings.Repeat("x", 1<<20) }),
			[]string{`inbound.via: "` + strings.Repeat("x", 80) + `..." is not one of: redirect, tproxy, marks, none`}},
	} {
		state, _, err := State(tt.config, testEnvironment)
		if got := lines(err); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.why, got, tt.want)
		}
		if err != nil && state.Table != nil {
			t.Errorf("%s: there is an error and a state", tt.why)
		}
		for _, e := range joined(err) {
			var config *ConfigError
			if !errors.As(e, &config) {
				t.Errorf("%s: %v is not a ConfigError", tt.why, e)
			}
		}
		unknownNames := func(line string) bool { return strings.Contains(line, "known here") }
		if got := lines(Check(tt.config)); !slices.Equal(got, slices.DeleteFunc(slices.Clone(tt.want), unknownNames)) {
			t.Errorf("%s: without an environment\ngot  %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

func joined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return nil
}

func TestNotes(t *testing.T) {
	poor := Environment{}
	for _, tt := range []struct {
		why    string
		config Config
		env    Environment
		want   []string
	}{
		{"a plain configuration has nothing to tell", least(), testEnvironment, nil},
		{"what auto was taken for", least(), Environment{LoopbackIPv6: true}, []string{"ipv6: auto was taken as disabled: IPv6 is left alone"}},
		{"what was asked for needs no note", with(func(c *Config) { c.IPv6 = "off" }), poor, nil},
		{"bits of a host are taken off", with(func(c *Config) { c.Outbound.ExcludeCIDRs = []string{"10.1.2.3/8", "fd00::1/8", "192.0.2.1"} }), testEnvironment, []string{
			"outbound.excludeCIDRs: 10.1.2.3/8 was read as 10.0.0.0/8",
			"outbound.excludeCIDRs: fd00::1/8 was read as fd00::/8",
		}},
		{"of the loopback prefix too", with(func(c *Config) { c.Loopback.CIDR = "127.0.0.1/8" }), testEnvironment,
			[]string{"loopback.cidr: 127.0.0.1/8 was read as 127.0.0.0/8"}},
		{"lo may refuse IPv6 addresses", with(func(c *Config) { c.IPv6 = "enabled" }), poor,
			[]string{"outbound.via: IPv6 connections that are captured cannot reach the proxy: IPv6 is disabled on lo",
				"loopback.passthrough: ::6 is not added: IPv6 is disabled on lo"}},
		{"what is not captured need reach no proxy", Config{Mode: ModeAmbientPod, IPv6: "enabled", Outbound: Outbound{Via: "none"}}, Environment{},
			[]string{"routing: table 100 gets no IPv6 route: IPv6 is disabled on lo"}},
		{"which resolvers were taken", with(func(c *Config) { c.DNS.Capture = "servers" }), testEnvironment,
			[]string{"dns.servers: the namespace's resolvers were taken: [10.96.0.10 fd00::10]"}},
		{"that no resolver is of a captured family", with(func(c *Config) { c.IPv6, c.DNS = "off", DNS{Capture: "servers", Servers: []string{"fd00::10"}} }), poor,
			[]string{"dns.capture: no resolver is IPv4, and IPv6 is left alone: no query is captured"}},
		{"that no destination is of a captured family", with(func(c *Config) { c.IPv6, c.Outbound.IncludeCIDRs = "off", []string{"fd00::/8"} }), poor,
			[]string{"outbound.includeCIDRs: holds no IPv4 prefix, and IPv6 is left alone: they capture nothing"}},
		{"that IPv6 needs no exclusion", with(func(c *Config) { c.IPv6, c.Outbound.ExcludeCIDRs = "off", []string{"10.0.0.0/8", "fd00::/8"} }), poor,
			[]string{"outbound.excludeCIDRs: IPv6 is left alone anyway: its prefixes exclude nothing"}},
		{"that what is not included needs no exclusion", with(func(c *Config) { c.Inbound.IncludePorts, c.Inbound.ExcludePorts = []PortWord{"80"}, []PortWord{"22"} }), testEnvironment,
			[]string{"inbound.excludePorts: inbound.includePorts does not hold them: they are left alone anyway"}},
		{"what goes with lo", with(func(c *Config) { c.Interfaces.Exclude = []string{"eth1", "lo"} }), testEnvironment,
			[]string{"interfaces.exclude: lo is left alone too: no call to the own pod or to a resolver in it is captured"}},
		{"that a wildcard excludes lo", with(func(c *Config) { c.Interfaces.Exclude = []string{"l*"} }), testEnvironment,
			[]string{"interfaces.exclude: lo is left alone too: no call to the own pod or to a resolver in it is captured"}},
		{"that lo gets no such address", with(func(c *Config) { c.Loopback.Passthrough = []string{"127.0.0.6", "192.0.2.6", "2001:db8::6"} }), testEnvironment,
			[]string{"loopback.passthrough: 192.0.2.6 is not a loopback address, and IPv4 ones are not added to lo: the proxy can call from it only where an interface has it"}},
		{"that nothing is routed", with(func(c *Config) { c.Routing = Routing{Mark: "7", Table: "70"} }), testEnvironment, []string{
			"routing.mark: is used only with inbound.via: tproxy",
			"routing.table: is used only with inbound.via: tproxy",
		}},
		{"that marked packets are routed as others", with(func(c *Config) { c.Inbound.Via, c.Routing.Table = "tproxy", "none" }), testEnvironment,
			[]string{"routing.table: none: marked packets are routed as others are"}},
		{"that all packets are delivered here", with(func(c *Config) { c.Inbound.Via, c.Routing.Table = "tproxy", "local" }), testEnvironment,
			[]string{"routing.table: local: every packet is delivered to this pod, whatever its destination"}},
		{"that every packet has the mark", with(func(c *Config) { c.Inbound.Via, c.Routing.Mark = "tproxy", "0/0xffffffff" }), testEnvironment,
			[]string{"routing.mark: 0 is what packets without a mark have: every packet is routed by routing.table, and none comes in by the proxy"}},
		{"that nothing listens", with(func(c *Config) { c.Outbound.Port = "0-0" }), testEnvironment,
			[]string{"outbound.port: nothing can listen on port 0: what is captured is refused"}},
		{"that two marks are one", with(func(c *Config) { c.Inbound.Via, c.Routing.Mark, c.Routing.LoopMark = "tproxy", "1338", "1338" }), testEnvironment,
			[]string{"routing.loopMark: is routing.mark too: the proxy's calls to its own pod are not captured as they come in"}},
		{"that a mask has no mark", with(func(c *Config) { c.Routing.Mask = "0xffff" }), testEnvironment, []string{"routing.mask: is used only with inbound.via: tproxy"}},
		{"the proxy's mark is under the mask", with(func(c *Config) { c.Proxy.Mark, c.Routing.Mask = "0x1539", "0xffff" }), testEnvironment, nil},
		{"what is routed needs no note", with(func(c *Config) { c.Inbound.Via, c.Routing.Mark = "tproxy", "7" }), testEnvironment, nil},
		{"whose probes get no source", host(func(c *Config) { c.Probes.Addresses = []string{"192.0.2.1"} }), testEnvironment,
			[]string{"probes.addresses: has none of ipv6: probes of that family go to the proxy"}},
		{"that no probe gets a source", host(func(c *Config) { c.IPv6, c.Probes.Addresses = "off", []string{"fd00::1"} }), testEnvironment,
			[]string{"probes.addresses: has none of ipv4: probes of that family go to the proxy"}},
		{"that a listener serves for two", with(func(c *Config) { c.Outbound.Port = "15006" }), testEnvironment,
			[]string{"outbound.port: 15006 is inbound.port too: one listener has to serve for both"}},
	} {
		_, notes, err := State(tt.config, tt.env)
		var got []string
		for _, n := range notes {
			got = append(got, n.String())
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q, %v\nwant %q", tt.why, got, err, tt.want)
		}
	}
}

// TestNoResolver: capture that cannot be is an error, and not of the words. What
// is checked without an environment may have resolvers yet.
func TestNoResolver(t *testing.T) {
	c := with(func(c *Config) { c.DNS.Capture = "servers" })
	_, _, err := State(c, Environment{})
	config, is := errors.AsType[*ConfigError](err)
	if !is || !config.Missing || err.Error() != "dns.capture: no resolver is known (want dns.servers, dns.capture: all, or none)" {
		t.Errorf("without a resolver: %v", err)
	}
	if err := Check(c); err != nil {
		t.Errorf("checked alone: %v", err)
	}
	c.DNS.Servers = []string{"192.0.2.53"}
	if _, _, err := State(c, Environment{}); err != nil {
		t.Errorf("with a server: %v", err)
	}
}

func TestSharedListeners(t *testing.T) {
	for _, tt := range []struct {
		why    string
		config Config
		want   []string
	}{
		{"the defaults differ", with(func(c *Config) { c.DNS.Capture = "all" }), nil},
		{"a port in both directions", with(func(c *Config) { c.Outbound.Port = "15006" }), []string{"outbound.port: 15006 is inbound.port too: one listener has to serve for both"}},
		{"the key that was written is told", with(func(c *Config) { c.Inbound.Port = "15001" }), []string{"inbound.port: 15001 is outbound.port too: one listener has to serve for both"}},
		{"a direction that is not captured has no listener", with(func(c *Config) { c.Inbound.Port, c.Outbound.Via = "15001", "off" }), nil},
		{"the tunnel", with(func(c *Config) { c.Inbound.TunnelPort = "15006" }), []string{"inbound.tunnelPort: 15006 is inbound.port too: one listener has to serve for both"}},
		{"DNS comes over TCP too", with(func(c *Config) { c.DNS = DNS{Capture: "all", Port: "15001"} }), []string{"dns.port: 15001 is outbound.port too: one listener has to serve for both"}},
		{"DNS has no listener where it is not captured", with(func(c *Config) { c.DNS.Port = "15001" }), nil},
		{"three", with(func(c *Config) { c.Inbound.Port, c.Inbound.TunnelPort, c.Outbound.Port = "9", "9", "9" }), []string{
			"inbound.tunnelPort: 9 is inbound.port too: one listener has to serve for both",
			"outbound.port: 9 is inbound.port too: one listener has to serve for both",
			"outbound.port: 9 is inbound.tunnelPort too: one listener has to serve for both",
		}},
		{"what is not a port is another's problem", with(func(c *Config) { c.Inbound.Port, c.Outbound.Port = "x", "x" }), nil},
		{"an ambient pod whose inbound is not captured has no listener for it", Config{Mode: ModeAmbientPod, Inbound: Inbound{Via: "none"}, Outbound: Outbound{Port: "15006"}}, nil},
		{"mode none has no listener", Config{Mode: ModeNone}, nil},
	} {
		r := &reader{}
		r.noteShared(tt.config, tt.config.withDefaults())
		var got []string
		for _, n := range r.notes {
			got = append(got, n.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

func TestNotesAreBounded(t *testing.T) {
	c := with(func(c *Config) { c.Outbound.ExcludeCIDRs = manyPrefixes(1000, "10.%d.%d.1/24") })
	_, notes, err := State(c, testEnvironment)
	if err != nil || len(notes) != maxNotes+1 {
		t.Fatalf("%d notes, %v", len(notes), err)
	}
	if got, want := notes[maxNotes].Text, "992 more were read without the bits of a host, like these"; got != want {
		t.Errorf("the last says %q, want %q", got, want)
	}
	if got := notes[0].Word; got != "10.0.0.1/24" {
		t.Errorf("the first is about the word %q", got)
	}
}

// alike are words that mean the same.
func TestSynonyms(t *testing.T) {
	for _, tt := range []struct {
		why string
		a   func(*Config, string)
		in  []string
	}{
		{"YAML tools write off for disabled", func(c *Config, w string) { c.IPv6 = w }, []string{"disabled", "off", "false", "no", "Off", "DISABLED"}},
		{"and on for enabled", func(c *Config, w string) { c.DropInvalid = w }, []string{"enabled", "on", "true", "yes", "True"}},
		{"off is none where none is a word", func(c *Config, w string) { c.Inbound.Via = w }, []string{"none", "off", "false", "no"}},
		{"of a direction too", func(c *Config, w string) { c.Outbound.Via = w }, []string{"none", "off", "false"}},
		{"of DNS too", func(c *Config, w string) { c.DNS.Capture = w }, []string{"none", "off", "no"}},
		{"a star is all", func(c *Config, w string) { c.DNS.Capture = w }, []string{"all", "*", "ALL"}},
		{"a star is all ports", func(c *Config, w string) { c.Inbound.IncludePorts = []PortWord{PortWord(w)} }, []string{"all", "*", "All"}},
		{"a star is all destinations", func(c *Config, w string) { c.Outbound.IncludeCIDRs = []string{w} }, []string{"all", "*"}},
		{"a star is all groups", func(c *Config, w string) { c.Outbound.IncludeGIDs = []string{w} }, []string{"all", "*"}},
		{"none is an empty list", func(c *Config, w string) { c.Outbound.ExcludePorts = []PortWord{PortWord(w)} }, []string{"none", "off", "false", "no"}},
		{"ports have one form", func(c *Config, w string) { c.Outbound.ExcludePorts = []PortWord{PortWord(w)} }, []string{"80-90", "80:90", "80 - 90"}},
		{"a range of one is one port", func(c *Config, w string) { c.Outbound.ExcludePorts = []PortWord{PortWord(w)} }, []string{"80", "80-80"}},
		{"marks have one value", func(c *Config, w string) { c.Proxy.Mark = MarkWord(w) }, []string{"1337", "0x539", "0X539", "1337/0xfff"}},
		{"users have one number", func(c *Config, w string) { c.Proxy.UIDs = []string{w} }, []string{"1337", "envoy"}},
		{"wildcards have one form", func(c *Config, w string) { c.Interfaces.Exclude = []string{w} }, []string{"veth*", "veth+"}},
		{"an address is a prefix of all its bits", func(c *Config, w string) { c.Outbound.ExcludeCIDRs = []string{w} }, []string{"192.0.2.1", "192.0.2.1/32"}},
	} {
		var first string
		for i, word := range tt.in {
			state, _, err := State(with(func(c *Config) { tt.a(c, word) }), testEnvironment)
			if err != nil {
				t.Errorf("%s: %q: %v", tt.why, word, err)
				continue
			}
			if i == 0 {
				first = state.String()
			} else if state.String() != first {
				t.Errorf("%s: %q is not %q:\n%s\n%s", tt.why, word, tt.in[0], state, first)
			}
		}
	}
}

func TestDefaultsAreWhatIsWrittenInTheReference(t *testing.T) {
	for _, config := range []Config{least(), {Mode: ModeAmbientPod}, {Mode: ModeAmbientHost}} {
		bare, _, err := State(config, testEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		written := config
		for _, k := range Keys() {
			_, set := k.Get(&written)
			if word := k.DefaultOf(config.Mode); !set && k.UsedBy(config.Mode) && word != "" {
				k.Set(&written, strings.Split(word, ",")...)
			}
		}
		full, _, err := State(written, testEnvironment)
		if err != nil || full.String() != bare.String() {
			t.Errorf("%v\n%s\nwant\n%s", err, full, bare)
		}
	}
}

func TestModeNoneIsNothing(t *testing.T) {
	state, notes, err := State(Config{Mode: ModeNone, Table: "mine"}, testEnvironment)
	if err != nil || len(notes) > 0 || state.String() != "" {
		t.Errorf("got %s, %v, %v", state, notes, err)
	}
}

func TestTableName(t *testing.T) {
	if got := (Config{}).TableName(); got != DefaultTable {
		t.Errorf("got %q", got)
	}
	state, _, err := State(with(func(c *Config) { c.Table = "mine" }), testEnvironment)
	if err != nil || state.Table.Name != "mine" {
		t.Errorf("got %v, %v", state.Table, err)
	}
}

// manyPrefixes are n words of a form with two numbers of 0-255.
func manyPrefixes(n int, form string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(form, i>>8&255, i&255)
	}
	return out
}

// BenchmarkLargeLists reads lists, and such as are ten times as long: what goes by
// the square takes a hundred times.
func BenchmarkLargeLists(b *testing.B) {
	ports := func(n int) []PortWord {
		out := make([]PortWord, n)
		for i := range out {
			out[i] = Port(uint16(i%65535 + 1))
		}
		return out
	}
	for _, tt := range []struct {
		why  string
		size int
		make func(c *Config, n int)
	}{
		{"excluded prefixes", 100_000, func(c *Config, n int) {
			c.Outbound.ExcludeCIDRs = make([]string, n)
			for i := range n {
				c.Outbound.ExcludeCIDRs[i] = fmt.Sprintf("10.%d.%d.%d/32", i>>15&255, i>>7&255, i<<1&255)
			}
		}},
		{"prefixes with the bits of a host", 60_000, func(c *Config, n int) { c.Outbound.ExcludeCIDRs = manyPrefixes(n, "10.%d.%d.1/24") }},
		{"words that are not prefixes", 60_000, func(c *Config, n int) { c.Outbound.ExcludeCIDRs = manyPrefixes(n, "10.%d.%d.1/33") }},
		{"ports that are both included and excluded", 60_000, func(c *Config, n int) {
			c.Outbound.IncludePorts, c.Outbound.ExcludePorts = ports(n), ports(n)
		}},
		{"users", 100_000, func(c *Config, n int) { c.Outbound.ExcludeUIDs = texts(ports(n)) }},
	} {
		for _, n := range []int{tt.size / 10, tt.size} {
			b.Run(fmt.Sprintf("%s/%d", tt.why, n), func(b *testing.B) {
				c := with(func(c *Config) { tt.make(c, n) })
				for b.Loop() {
					_, _, _ = State(c, testEnvironment)
				}
			})
		}
	}
}

func BenchmarkState(b *testing.B) {
	for _, n := range []int{0, 100, 10_000} {
		c := with(func(c *Config) { c.Outbound.ExcludeCIDRs = manyPrefixes(n, "10.%d.%d.0/24") })
		b.Run(fmt.Sprintf("%d excluded prefixes", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := State(c, testEnvironment); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzState has words of every kind in every key: no word makes a panic, and
// what is not a problem is a state that checks.
func FuzzState(f *testing.F) {
	f.Add("sidecar", "1337", "80-90", "10.0.0.0/8", "eth*", "0x539/0xfff", "all", true)
	f.Add("sidecar", "envoy", "all", "all", "eth0", "1", "servers", false)
	f.Add("none", "", "", "", "", "", "", false)
	f.Fuzz(func(t *testing.T, mode, id, ports, prefix, name, mark, word string, ipv6 bool) {
		port := PortWord(ports)
		c := Config{
			Mode: mode, IPv6: word, DropInvalid: word,
			Proxy:      Proxy{UIDs: []string{id}, GIDs: []string{id, mark}, Mark: MarkWord(mark)},
			Inbound:    Inbound{Via: word, Port: port, IncludePorts: []PortWord{port, PortWord(mark)}, ExcludePorts: []PortWord{port}},
			Outbound:   Outbound{Port: port, IncludeCIDRs: []string{prefix}, ExcludeCIDRs: []string{prefix, name}, IncludePorts: []PortWord{port}, ExcludePorts: []PortWord{PortWord(id)}, IncludeGIDs: []string{word}, ExcludeUIDs: []string{mark}},
			DNS:        DNS{Capture: word, Servers: []string{prefix}},
			Interfaces: Interfaces{Exclude: []string{name}, Reroute: []Rerouted{{Name: name, Exclusions: word}, {Name: word}}},
			Loopback:   Loopback{CIDR: prefix, Passthrough: []string{prefix}},
			Routing:    Routing{Mark: MarkWord(mark), LoopMark: MarkWord(id), Table: id, Priority: mark},
		}
		for _, k := range Keys() { // each key by itself, so that one problem hides no other
			words, set := k.Get(&c)
			if !set {
				continue
			}
			one := with(func(c *Config) {
				c.IPv6 = map[bool]string{true: "enabled", false: "disabled"}[ipv6]
				k.Set(c, words...)
			})
			state, _, err := State(one, testEnvironment)
			var config *ConfigError
			if err != nil && !errors.As(err, &config) {
				t.Errorf("%s %q: %v", k.Path, words, err)
			}
			if err == nil && state.Table != nil {
				_ = state.String()
			}
		}
		_, _, _ = State(c, testEnvironment)
	})
}

// TestUnreadFiles: a name that is not known, and a resolver that is not, may be so for
// want of a file.
func TestUnreadFiles(t *testing.T) {
	env := Environment{Unread: map[string]error{"passwd": errors.New("permission denied"), "resolv.conf": errors.New("it is a FIFO")}}
	for _, tt := range []struct {
		why, want string
		change    func(*Config)
	}{
		{"a user's name", "permission denied", func(c *Config) { c.Proxy.UIDs = []string{"envoy"} }},
		{"the resolvers", "it is a FIFO", func(c *Config) { c.DNS.Capture = "servers" }},
	} {
		_, _, err := State(with(tt.change), env)
		if err == nil || !strings.HasSuffix(err.Error(), " ("+tt.want+")") {
			t.Errorf("%s: %v, want it to end with (%s)", tt.why, err, tt.want)
		}
	}
	_, _, err := State(with(func(c *Config) { c.Proxy.UIDs = []string{"-7"} }), env)
	if err == nil || strings.Contains(err.Error(), "permission denied") {
		t.Errorf("what is not a name of a user: %v", err)
	}
}
