// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/internal/conflict/sight"
	"github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// healthy is a namespace in which nothing is to be found.
func healthy() Facts {
	f := Facts{
		kernel: "6.1.0-13-amd64", tried: "a scratch namespace", ipv6: true, looked: true, lo: netns.Loopback{Up: true, IPv6: true}, mounts: true, cgroup2: "/sys/fs/cgroup",
		sysctls:   map[string]string{},
		proxyUIDs: []idRange{{1337, 1337}}, connections: netns.Tracked{Known: true, Count: 5, Max: 1000},
	}
	for _, link := range []string{"all", "eth0", "eth0.7"} {
		for _, name := range []string{rpFilter, validMark, localnet} {
			f.set(link, name, "0")
		}
	}
	return f
}

// set writes a setting of one interface, or of all.
func (f *Facts) set(link, name, value string) { f.sysctls[confFolder+link+"/"+name] = value }

func TestDoctorFindsNothingWhereNothingIs(t *testing.T) {
	f := healthy()
	for _, feature := range nft.Features() {
		f.trials = append(f.trials, nft.Trial{Feature: feature})
	}
	for _, c := range f.Checks() {
		if c.Status != Passed || c.Remedy != "" {
			t.Errorf("found %+v", c)
		}
	}
}

// TestDoctorFindings: each finding's text, and nothing beside it.
func TestDoctorFindings(t *testing.T) {
	feature := nft.Feature{Name: "redirect", Option: "CONFIG_NFT_REDIR", For: "capture by redirect"}
	spare := nft.Feature{Name: "tproxy", Option: "CONFIG_NFT_TPROXY", For: "inbound.via tproxy", Optional: true}
	missing := &nft.RejectedError{Where: "chain unreached rule 1", Err: syscall.ENOENT}
	more := "; more room (sysctl"
	for _, tt := range []struct {
		why  string
		ill  func(*Facts)
		want string // status check: finding; remedy
	}{
		{"an old kernel", func(f *Facts) { f.kernel = "4.19.0-27-amd64" },
			"failed kernel: Linux 4.19.0-27-amd64 is older than 5.10, the oldest that is tried; a newer kernel; the lines below say what works on this one"},
		{"a release that is not a version", func(f *Facts) { f.kernel = "mine" },
			`skipped kernel: its release "mine" does not say its version`},
		{"no capability", func(f *Facts) { f.readErr = fmt.Errorf("x: %w", nft.ErrNotPermitted) },
			"failed CAP_NET_ADMIN: rules can be neither read nor changed: CAP_NET_ADMIN is missing in the network namespace; " +
				"securityContext.capabilities.add: [NET_ADMIN] in a pod, root on a node, or unshare -Urn to try\n" +
				"skipped other engines: the rules were not read"},
		{"no nftables", func(f *Facts) { f.readErr = errors.New("nftables: no such protocol") },
			"failed CAP_NET_ADMIN: rules cannot be read: nftables: no such protocol; a kernel with CONFIG_NF_TABLES and its module nf_tables\n" +
				"skipped other engines: the rules were not read"},
		{"the machine's own", func(f *Facts) { f.host = true },
			"note namespace: this is the machine's own network namespace; apply needs --host-network here; --pid N or --netns NAME means a container's"},
		{"a user namespace", func(f *Facts) { f.userSpace = []idRange{{0, 0}, {1000, 2000}} },
			"note users: this is a user namespace, in which these users exist: 0, 1000-2000; proxy.uids must be among them; rules of another user's match nothing"},
		{"no scratch namespace", func(f *Facts) { f.tried, f.trialErr = "", errors.New("operation not permitted") },
			"skipped nftables: what modes need was not tried: operation not permitted; a scratch namespace takes CAP_SYS_ADMIN (root, or unshare -Urn); --here tries in the namespace itself"},
		{"a feature that modes need", func(f *Facts) { f.trials = []nft.Trial{{Feature: feature, Err: missing}} },
			"failed redirect: refused (no such file or directory): needed for capture by redirect; a kernel with CONFIG_NFT_REDIR"},
		{"a feature of newer kernels", func(f *Facts) {
			f.trials = []nft.Trial{{Feature: nft.Feature{Name: "destroy", Option: "Linux 6.3 or later", For: "nothing yet", Optional: true}, Err: missing}}
		}, "note destroy: not in this kernel (no such file or directory), for: nothing yet; Linux 6.3 or later"},
		{"a feature that can be spared", func(f *Facts) { f.trials = []nft.Trial{{Feature: spare, Err: missing}} },
			"note tproxy: not in this kernel (no such file or directory), for: inbound.via tproxy; a kernel with CONFIG_NFT_TPROXY"},
		{"lo is down", func(f *Facts) { f.lo.Up = false },
			"failed lo: it is down: what is redirected would not reach the proxy; ip link set lo up"},
		{"IPv6 on interfaces and not on lo", func(f *Facts) { f.lo.IPv6 = false },
			"failed IPv6: interfaces have IPv6 addresses and lo takes none: a redirected IPv6 connection cannot be delivered; " +
				"sysctl -w net.ipv6.conf.lo.disable_ipv6=0, or ipv6: disabled in the configuration"},
		{"no IPv6", func(f *Facts) { f.ipv6, f.lo.IPv6 = false, false },
			"note IPv6: there is none here, not even on lo; with ipv6: auto it is left alone"},
		{"IPv6 on lo alone", func(f *Facts) { f.ipv6 = false },
			"note IPv6: on lo alone; with ipv6: auto it is left alone"},
		{"no /proc", func(f *Facts) { f.sysctls = nil },
			"skipped settings: there is no /proc/sys of this namespace to be read"},
		{"strict reverse paths", func(f *Facts) { f.set("all", rpFilter, "1") },
			"note rp_filter: net.ipv4.conf.all.rp_filter is 1: what arrives by another interface than its answer would leave by is dropped after prerouting; " +
				"sysctl -w net.ipv4.conf.all.rp_filter=2 where a pod has several interfaces"},
		{"strict reverse paths of one interface", func(f *Facts) { f.set("eth0.7", rpFilter, "1") },
			"note rp_filter: net.ipv4.conf.eth0/7.rp_filter is 1: what arrives by another interface than its answer would leave by is dropped after prerouting; " +
				"sysctl -w net.ipv4.conf.eth0/7.rp_filter=2 where a pod has several interfaces"},
		{"an interface's strict reverse paths that all's loose ones override", func(f *Facts) {
			f.set("all", rpFilter, "2")
			f.set("eth0", rpFilter, "1")
		}, ""},
		{"marks of one interface that reverse paths are looked up by", func(f *Facts) { f.set("eth0", validMark, "1") },
			"note src_valid_mark: net.ipv4.conf.eth0.src_valid_mark is 1: what has a mark as it comes in is dropped where a policy rule for the mark delivers it here: with inbound.via tproxy what is for addresses other than the pod's own; " +
				"sysctl -w net.ipv4.conf.eth0.src_valid_mark=0 where that is to be captured"},
		{"marks that reverse paths are looked up by", func(f *Facts) { f.set("all", validMark, "1") },
			"note src_valid_mark: net.ipv4.conf.all.src_valid_mark is 1: what has a mark as it comes in is dropped where a policy rule for the mark delivers it here: with inbound.via tproxy what is for addresses other than the pod's own; " +
				"sysctl -w net.ipv4.conf.all.src_valid_mark=0 where that is to be captured"},
		{"loopback that neighbours reach", func(f *Facts) { f.set("all", localnet, "1") },
			"note route_localnet: net.ipv4.conf.all.route_localnet is 1: neighbours on a link reach what listens on 127.0.0.1 here; " +
				"sysctl -w net.ipv4.conf.all.route_localnet=0: weir does not need it"},
		{"no /proc/self/mountinfo", func(f *Facts) { f.mounts = false },
			"skipped cgroup2: there is no /proc to tell what is mounted"},
		{"no cgroup2", func(f *Facts) { f.cgroup2 = "" },
			"note cgroup2: is not mounted: owners by cgroup cannot be told; mount -t cgroup2 none /sys/fs/cgroup, where those are wanted"},
		{"another engine alone", func(f *Facts) {
			f.sight.Engines = sight.Engines(nil, []netns.LegacyTable{{Family: "ip", Name: "nat", Chains: []string{"ISTIO_OUTPUT"}}}, nil)
		}, "note other engines: captured by istio: chains ISTIO_OUTPUT in iptables-legacy's table ip nat"},
		{"what another engine left", func(f *Facts) {
			f.sight.Engines = sight.Engines(nil, nil, policyRules(sim.PolicyRule{Family: rules.IPv4, Priority: 32764, Mark: 0x111, Mask: 0xfff, Table: 100}))
		}, "failed other engines: istio has rules here: the policy rule ipv4 fwmark 0x111/0xfff lookup 100; " +
			"take them out by istio's own clean-up, or delete the pod: two engines capture each other's traffic"},
		{"another engine beside weir", func(f *Facts) {
			f.state.Table = &rules.Table{Name: "weir"}
			f.sight.Engines = sight.Engines(nil, []netns.LegacyTable{{Family: "ip", Name: "nat", Chains: []string{"ISTIO_OUTPUT", "MINE"}}},
				policyRules(sim.PolicyRule{Family: rules.IPv4, Priority: 32764, Mark: 0x111, Mask: 0xfff, Table: 100}, sim.PolicyRule{Mark: 5, Mask: 5, Table: 100}))
		},
			"failed other engines: istio has rules here: chains ISTIO_OUTPUT in iptables-legacy's table ip nat; " +
				"the policy rule ipv4 fwmark 0x111/0xfff lookup 100; " +
				"take them out by istio's own clean-up, or delete the pod: two engines capture each other's traffic"},
		{"rules of others that cannot be read", func(f *Facts) { f.blind = errors.New("too much") },
			"skipped other engines: they were not looked for: too much"},
		{"legacy tables that cannot be read", func(f *Facts) { f.sight.NoLegacy = errors.New("not permitted") },
			"skipped other engines: iptables-legacy's tables were not read: not permitted"},
		{"a table by weir's name", func(f *Facts) { f.inTheWay = &nft.NotOursError{Table: "weir", Lacks: "tag"} },
			"failed tables in the way: table inet weir is there, and weir did not write it: it has no tag (to give it up: nft delete table inet weir); " +
				"give them up, or have weir's table by another name (key table)"},
		{"an apply that was cut short", func(f *Facts) { f.leftovers = []rules.Difference{{Where: "table inet weir-next", Have: "left"}} },
			"failed left-overs: table inet weir-next should not be there\n  have  left; weir apply or weir remove takes them away"},
		{"a dormant table", func(f *Facts) { f.dormant, f.table = true, "weir" },
			"failed dormant table: table inet weir has the flag dormant: the kernel calls none of its chains, nothing is captured; weir apply puts it in force again"},
		{"no proxy", func(f *Facts) { f.proxyUIDs = nil },
			"skipped proxy's users: neither a configuration nor rules of weir say who they are"},
		{"no processes to be seen", func(f *Facts) { f.processErr = errors.New("no /proc") },
			"skipped proxy's users: the processes were not looked at: no /proc"},
		{"a shared user", func(f *Facts) {
			f.processes = []pods.Process{{PID: 10, Status: netns.Status{Name: "pilot-agent", FSUID: 1337}}, {PID: 11, Status: netns.Status{Name: "envoy", FSUID: 1337, Parent: 10}},
				{PID: 20, Status: netns.Status{Name: "curl", FSUID: 1337}}, {PID: 21, Status: netns.Status{Name: "app", FSUID: 1000}}}
		},
			"failed proxy's users: user 1337 is that of 2 processes that have nothing to do with each other: 10 (pilot-agent), 20 (curl); " +
				"their traffic is taken for the proxy's and not captured; a user of its own for the proxy (proxy.uids, securityContext.runAsUser)"},
		{"no tracker", func(f *Facts) { f.connections = netns.Tracked{} },
			"skipped conntrack: the connection tracker's numbers cannot be read here"},
		{"a full table", func(f *Facts) { f.connections.Count = 1000 },
			"failed conntrack: 1000 of 1000 connections: the table is full, new connections are dropped" + more},
		{"a nearly full table", func(f *Facts) { f.connections.Count = 900 },
			"failed conntrack: 900 of 1000 connections: the table is nearly full; once it is, new connections are dropped" + more},
		{"a table that was full", func(f *Facts) { f.connections.Dropped = 7 },
			"note conntrack: 5 of 1000 connections; 7 were dropped for want of room" + more},
	} {
		f := healthy()
		tt.ill(&f)
		var found []string
		for _, c := range f.Checks() {
			if c.Status == Passed {
				continue
			}
			line := fmt.Sprintf("%s %s: %s", c.Status, c.Name, c.Finding)
			if c.Remedy != "" {
				line += "; " + c.Remedy
			}
			found = append(found, line)
		}
		if got := strings.Join(found, "\n"); got != tt.want && !(strings.HasSuffix(tt.want, more) && strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: found\n%s\nwant\n%s", tt.why, got, tt.want)
		}
	}
}

// policyRules are those of other programs.
func policyRules(all ...sim.PolicyRule) (out []netns.PolicyRule) {
	for _, l := range all {
		out = append(out, netns.PolicyRule{PolicyRule: l})
	}
	return out
}
