// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os/exec"
	"testing"
)

// TestExplainLive: what a namespace holds decides, whoever wrote it, and what
// weir cannot see makes the answer unknown.
func TestExplainLive(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.must("", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "away0")
	c.must("", "ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
	for _, link := range []string{"lo", "eth0", "away0"} {
		c.must("", "ip", "link", "set", link, "up")
	}
	out := []string{"explain", "--live", "--uid", "1000", "tcp", "198.51.100.1:443"}
	c.run(out...).want(t, 0).prints(t, "lost: no route to 198.51.100.1")
	c.must("", "ip", "route", "add", "default", "via", "192.0.2.1")
	c.run(out...).want(t, 0).prints(t, "no rule decides about it", "left alone: leaves by eth0")

	martian := []string{"explain", "--live", "--in", "eth0", "--from", "198.51.100.7", "tcp", "127.0.0.1:80"}
	c.run(martian...).want(t, 0).prints(t, "lost: a loopback address has no business on eth0")
	c.must("", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
	c.run(martian...).want(t, 0).prints(t, "left alone: delivered to 127.0.0.1:80")
	c.must("", "sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/all/route_localnet")

	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")
	c.run(out...).want(t, 0).prints(t, "tcp 192.0.2.2 -> 198.51.100.1:443", "captured: lands on port 15001", "where no socket listens")
	in := []string{"explain", "--live", "--in", "eth0", "--from", "198.51.100.7", "tcp", "192.0.2.2:80"}
	c.run(in...).want(t, 0).prints(t, "captured: lands on port 15006")
	c.run("explain", "--live", "--device", "eth7", "tcp", "198.51.100.7:80").want(t, 2).says(t, `the namespace has no interface "eth7"`)
	c.run("explain", "--live", "--in", "eth7", "--from", "198.51.100.7", "tcp", "192.0.2.2:80").want(t, 2).says(t, `the namespace has no interface "eth7"`)

	c.must(`table ip other { chain early { type filter hook output priority -160; tcp dport 443 drop; }; }`, "nft", "-f", "-")
	c.run(out...).want(t, 0).prints(t, "filter -160", "dropped: by table ip other, chain early, rule 1")
	c.run(in...).want(t, 0).prints(t, "captured: lands on port 15006")
	c.must("", "nft", "delete", "table", "ip", "other")

	c.must(`table ip other { chain early { type filter hook output priority -160; meta mark set meta mark & 0x1 | 0x2; }; }`, "nft", "-f", "-")
	c.run(append(out, "--markdown")...).want(t, 0).prints(t, `| output | early | 1 |  | `+"`meta mark set meta mark & 0x00000001 \\| 0x00000002` |")
	c.must("", "nft", "delete", "table", "ip", "other")

	c.must(`table inet rival { chain nat { type nat hook output priority -100; tcp dport 443 redirect to :9; }; }`, "nft", "-f", "-")
	c.run(out...).want(t, 0).prints(t, "taken by table inet rival, chain nat, rule 1: it lands on port 9, and not at weir's proxy")
	c.must("", "nft", "delete", "table", "inet", "rival")

	// Of three the one that was made last comes first.
	c.must("", "nft", "flush", "ruleset")
	c.must("table ip early { chain nat { type nat hook output priority -100; tcp dport 443 redirect to :9; }; }\n"+
		"table ip other { chain nat { type nat hook output priority -100; tcp dport 443 redirect to :9; }; }\n"+
		"table ip late { chain nat { type nat hook output priority -100; tcp dport 443 redirect to :8; }; }\n", "nft", "-f", "-")
	c.run(out...).want(t, 0).prints(t, "captured: lands on port 8")
	c.must("", "nft", "delete", "table", "ip", "late")
	c.run(out...).want(t, 0).prints(t, "captured: lands on port 9")
	c.must("", "nft", "flush", "ruleset")

	for chain, said := range map[string]string{
		"netdev other { chain c { type filter hook ingress device eth0 priority 0; policy drop; }; }": "decided by table netdev other, chain c, policy",
		"bridge other { chain c { type filter hook input priority 0; policy drop; }; }":               "bridge other decides at the bridge",
	} {
		c.must("table "+chain, "nft", "-f", "-")
		c.run(in...).prints(t, said)
		c.must("", "nft", "flush", "ruleset")
	}
	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")

	if _, err := exec.LookPath("iptables-nft"); err != nil {
		t.Skip("iptables-nft is not installed")
	}
	c.must("", "iptables-nft", "-t", "mangle", "-A", "OUTPUT", "-p", "tcp", "-m", "owner", "--uid-owner", "1000", "-j", "MARK", "--set-mark", "5")
	c.run(out...).want(t, 1).prints(t, "unknown from here: chain OUTPUT rule 1", "which the model does not know")
	c.run(in...).want(t, 0).prints(t, "captured: lands on port 15006")
}

// TestCompareLive: what a namespace holds is compared with a configuration by
// what it does.
func TestCompareLive(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.dir = t.TempDir()
	const config = "version: 1\nmode: sidecar\nipv6: disabled\nproxy: {uids: [1337]}\noutbound: {excludePorts: [%s]}\n"
	c.putFile("pod.yaml", fmt.Sprintf(config, "8000-8002"))
	c.putFile("same.yaml", fmt.Sprintf(config, "8002, 8001, 8000"))
	c.putFile("other.yaml", fmt.Sprintf(config, "8000-8003"))
	c.ok("apply", "--config", "pod.yaml")
	c.run("compare", "--live", "same.yaml").want(t, 0).prints(t, "no traffic changes fate")
	c.run("compare", "--live", "other.yaml").want(t, 3).prints(t, "port 8003", "left alone")
	c.run("compare", "pod.yaml", "same.yaml").want(t, 0)
	c.run("compare", "pod.yaml", "nowhere.yaml").want(t, 2).says(t, "nowhere.yaml")
}

func TestExplainLiveTakesNoConfiguration(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.run("explain", "--live", "--mode", "none", "tcp", "192.0.2.1:1").want(t, 2).says(t, "takes no configuration")
}
