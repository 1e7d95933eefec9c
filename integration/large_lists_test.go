// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// repeated joins what each number up to n makes.
func repeated(n int, separator string, each func(int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(each(i))
	}
	return b.String()
}

// ipv4 are addresses, one for each number.
func ipv4(i int) string { return fmt.Sprintf("%d.%d.%d.0", 20+i>>16, i>>8&255, i&255) }

// excluding is a configuration with a list below outbound.
func excluding(key string, n int, each func(int) string) string {
	return "mode: sidecar\nipv6: enabled\nproxy: {uids: [1337]}\noutbound:\n  " + key + ":\n    - " + repeated(n, "\n    - ", each) + "\n"
}

// many is a number for a test that is run often, or for a long one.
func many(n int) int { return howOften(n/10, n) }

// TestLargeLists takes lists through their lives with the time limit that a command
// has by itself. A dump of a long list was read in parts of 4 KiB, for each of which
// the kernel walks the list from its start: 100,000 prefixes were applied, and then
// neither verified nor removed.
func TestLargeLists(t *testing.T) {
	for _, tt := range []struct {
		why, config string
	}{
		{"prefixes of IPv4", excluding("excludeCIDRs", many(100_000), func(i int) string { return ipv4(i) + "/25" })},
		{"prefixes of IPv6", excluding("excludeCIDRs", many(100_000), func(i int) string { return fmt.Sprintf("2001:%x:%x::/49", 0xdb8+i>>16, i&0xffff) })},
		{"prefixes that lie side by side and are merged", excluding("excludeCIDRs", many(100_000), func(i int) string { return ipv4(i) + "/24" })},
		{"ports", excluding("excludePorts", many(30_000), func(i int) string { return fmt.Sprint(2*i + 1) })},
		{"users", excluding("excludeUIDs", many(30_000), func(i int) string { return fmt.Sprint(10_000 + 2*i) })},
	} {
		t.Run(tt.why, func(t *testing.T) {
			c := newCLI(t)
			config := filepath.Join(t.TempDir(), "pod.yaml")
			if err := os.WriteFile(config, []byte(tt.config), 0o644); err != nil {
				t.Fatal(err)
			}
			c.lives(config)
		})
	}
}

// TestDividedLists: a list that outgrows one set is divided, grows within its parts, and
// shrinks into one set again; each time the kernel holds what is wanted, and a destination
// is excluded or not as before.
func TestDividedLists(t *testing.T) {
	c := newCLI(t)
	config := filepath.Join(t.TempDir(), "pod.yaml")
	for _, step := range []struct {
		prefixes, sets int
	}{{16_384, 1}, {16_386, 2}, {16_400, 2}, {20, 1}} {
		text := excluding("excludeCIDRs", step.prefixes, func(i int) string { return ipv4(3*i) + "/25" })
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"apply --config " + config, "verify --config " + config, "verify"} {
			if got := c.run(strings.Fields(line)...); got.code != 0 {
				t.Fatalf("%d prefixes: weir %s: %s", step.prefixes, line, got)
			}
		}
		if got := strings.Count(c.run("show").out, "set outbound_exclude_"); got != step.sets {
			t.Errorf("%d prefixes are in %d sets, want %d", step.prefixes, got, step.sets)
		}
		for to, says := range map[string]string{ipv4(3): "left alone", ipv4(4): "captured"} {
			if got := c.run("explain", "--config", config, "--uid", "1000", "tcp", to+":80"); !strings.Contains(got.out, says) {
				t.Errorf("%d prefixes: %s is not %s: %s", step.prefixes, to, says, got)
			}
		}
	}
}

// lives applies, verifies, shows and removes, each as a command of its own.
func (c *cli) lives(config string) {
	c.Helper()
	for _, step := range []struct{ says, line string }{
		{"created: ", "apply --config " + config},
		{"unchanged: ", "apply --config " + config},
		{"clean: ", "verify --config " + config},
		{"clean: ", "verify"},
		{"table inet weir", "show"},
		{"", "graph"},
		{"", "doctor"},
		{"removed: ", "remove"},
	} {
		args := strings.Fields(step.line)
		got := c.run(args...)
		if got.code != 0 && step.line != "doctor" || got.signal != 0 || !strings.Contains(got.out, step.says) {
			c.Errorf("weir %s: exit %d, %.300s %.300s", args[0], got.code, got.out, got.errs)
		}
		if strings.Contains(got.errs, "deadline") || strings.Contains(got.errs, "timeout") {
			c.Errorf("weir %s: %.300s", args[0], got.errs)
		}
	}
	if left := c.ours(); len(left) > 0 {
		c.Errorf("after remove there is %v", left)
	}
}

// TestLargeNeighbours: what others have much of is in no one's way. A set of theirs
// by the name of the tag was dumped at every command.
func TestLargeNeighbours(t *testing.T) {
	for _, tt := range []struct {
		why, nft, ip string
	}{
		{why: "a set of addresses", nft: "table ip blocklist {\nset bad {\ntype ipv4_addr\nelements = { " + repeated(many(200_000), ", ", ipv4) +
			" }\n}\nchain in {\ntype filter hook input priority 0\nip saddr @bad drop\n}\n}"},
		{why: "a set of prefixes", nft: "table ip blocklist {\nset bad {\ntype ipv4_addr\nflags interval\nelements = { " +
			repeated(many(100_000), ", ", func(i int) string { return ipv4(i) + "/25" }) + " }\n}\n}"},
		{why: "a set by the name of the tag", nft: "table inet other {\nset tag {\ntype mark\nelements = { " +
			repeated(many(300_000), ", ", func(i int) string { return fmt.Sprint(i + 1) }) + " }\n}\n}"},
		{why: "a set by the name of the tag that begins as one", nft: "table inet other {\nset tag {\ntype mark\nelements = { 1 comment \"weir 1 0123456789abcdef v1\", " +
			repeated(many(300_000), ", ", func(i int) string { return fmt.Sprint(i + 2) }) + " }\n}\n}"},
		{why: "a verdict map", nft: "table inet other {\nmap ways {\ntype ipv4_addr . inet_service : verdict\nelements = { " +
			repeated(many(50_000), ", ", func(i int) string { return ipv4(i) + " . 80 : accept" }) + " }\n}\n}"},
		{why: "chains", nft: "table ip services {\n" + repeated(many(10_000), "\n", func(i int) string { return fmt.Sprintf("chain service%d {\n}", i) }) + "\n}"},
		{why: "rules", nft: "table ip services {\nchain one {\n" + repeated(many(20_000), "\n", func(i int) string { return "ip daddr " + ipv4(i) + " counter" }) + "\n}\n}"},
		{why: "policy rules", ip: repeated(many(5_000), "\n", func(i int) string { return fmt.Sprintf("rule add priority %d fwmark %d lookup 77", 10_000+i, i+1) })},
		{why: "routes", ip: repeated(many(100_000), "\n", func(i int) string { return "route add unreachable " + ipv4(i) + "/25 table 88" })},
	} {
		t.Run(tt.why, func(t *testing.T) {
			c := newCLI(t)
			if tt.nft != "" {
				c.nft(tt.nft)
			}
			if tt.ip != "" {
				c.must(tt.ip, "ip", "-batch", "-")
			}
			config := filepath.Join(t.TempDir(), "pod.yaml")
			if err := os.WriteFile(config, []byte(podYAML), 0o644); err != nil {
				t.Fatal(err)
			}
			c.lives(config)
			if family, name, is := strings.Cut(strings.TrimPrefix(tt.nft, "table "), " "); is && tt.nft != "" {
				name, _, _ = strings.Cut(name, " ")
				if got := c.run("show", "--foreign", family+" "+name); got.code != 0 {
					t.Errorf("show --foreign: %.300s", got)
				}
				if got := c.run("graph", "--foreign", family+" "+name); got.code != 0 {
					t.Errorf("graph --foreign: %.300s", got)
				}
			}
		})
	}
}
