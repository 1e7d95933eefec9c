// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// onCallAnswer is a command, and what is in what it prints.
type onCallAnswer struct {
	args []string
	code int
	says string
}

// TestOnCall: what people look for who are woken at night, a command and its answer each.
// What stands in the way of captured traffic otherwise is [TestObstacles]'s.
func TestOnCall(t *testing.T) {
	needUsers(t)
	all := newCLI(t)
	outbound := []string{"explain", "--live", "--uid", "1000", "tcp", "198.51.100.7:5432"}
	for _, tt := range []struct {
		why     string
		config  []string
		before  func(*cli)
		do      func(*cli)
		answers []onCallAnswer
	}{
		{"a foreign accept, after which other nat chains run all the same", nil, nil,
			tables("table inet other {\nchain out {\ntype nat hook output priority -110\naccept\n}\nchain early {\ntype filter hook output priority -200\naccept\n}\n}\n"),
			[]onCallAnswer{
				{[]string{"explain", "--live", "--uid", "1000", "tcp", "198.51.100.7:80"}, 0, "captured: lands on port 15001"},
				{[]string{"doctor", "--json"}, 0, `"nothing stands in its way`},
			}},
		{"a shared proxy UID", nil, nil, func(c *cli) { c.sleeps(1337); c.sleeps(1337) },
			[]onCallAnswer{{[]string{"doctor"}, 1, "user 1337 is that of 2 processes that have nothing to do with each other"}}},
		{"a dormant table", nil, nil, tables("add table inet weir { flags dormant; }"),
			[]onCallAnswer{
				{[]string{"verify"}, 3, "dormant: the kernel calls none of its chains"},
				{[]string{"explain", "--live", "--uid", "1000", "tcp", "198.51.100.7:80"}, 0, "left alone: leaves by eth0 (table inet weir is dormant"},
				{[]string{"doctor"}, 1, "dormant"},
			}},
		{"an excluded port that should not be", []string{"--outbound-exclude-ports", "5432"}, nil, func(*cli) {},
			[]onCallAnswer{
				{outbound, 0, "left alone: leaves by eth0"},
				{outbound, 0, `"an excluded outbound port is left alone, the proxy's own too"`},
			}},
		{"src_valid_mark, which inbound survives", byTProxy, nil,
			func(c *cli) {
				c.must("", "sysctl", "-qw", "net.ipv4.conf.all.src_valid_mark=1", "net.ipv4.conf.eth0.rp_filter=1")
			},
			[]onCallAnswer{
				{[]string{"explain", "--live", "--in", "eth0", "--from", "192.0.2.1", "tcp", "192.0.2.2:80"}, 0, "captured: lands on port 15006"},
				{[]string{"doctor", "--json"}, 0, `"nothing stands in its way`},
			}},
		{"Docker's resolver, whose rules came before ours", []string{"--dns-capture", "servers", "--dns-servers", "127.0.0.11"}, dockerResolver, func(*cli) {},
			[]onCallAnswer{{[]string{"explain", "--live", "--uid", "1000", "udp", "127.0.0.11:53"}, 0, "captured: lands on port 15053"}}},
		{"Docker's resolver, whose rules came after ours", []string{"--dns-capture", "servers", "--dns-servers", "127.0.0.11"}, nil, dockerResolver,
			[]onCallAnswer{
				{[]string{"explain", "--live", "--uid", "1000", "udp", "127.0.0.11:53"}, 0, "taken by table ip nat, chain DOCKER_OUTPUT, rule 1 (docker): it lands on port 45413"},
				{[]string{"verify"}, 0, "chain OUTPUT of table ip nat (nat output -100) (docker) sends DNS queries (IPv4) elsewhere than to the proxy"},
				{[]string{"doctor"}, 1, "chain OUTPUT of table ip nat"},
			}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			c := all.elsewhere(t)
			c.pod("")
			if tt.before != nil {
				tt.before(c)
			}
			c.ok(append([]string{"apply", "--mode", "sidecar", "--proxy-uids", "1337"}, tt.config...)...)
			c.listens(listening{uid: 1337, transparent: true})
			tt.do(c)
			for _, a := range tt.answers {
				if o := c.run(a.args...).want(t, a.code); !strings.Contains(o.String(), a.says) { // notes are on standard error
					t.Errorf("want %q: %s", a.says, o)
				}
			}
		})
	}
}

// sleeps is a process of a user's.
func (c *cli) sleeps(uid uint32) {
	c.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	started := make(chan error)
	go c.try(func() error { // the process ends with the thread that started it otherwise
		err := cmd.Start()
		started <- err
		return err
	})
	if err := <-started; err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { stop(); _ = cmd.Wait() })
}

// dockerResolver is what Docker has in a container's namespace for its resolver.
func dockerResolver(c *cli) {
	c.nft(strings.TrimSpace(`
table ip nat {
	chain DOCKER_OUTPUT {
		ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:45413
		ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:38181
	}
	chain OUTPUT {
		type nat hook output priority -100; policy accept;
		ip daddr 127.0.0.11 jump DOCKER_OUTPUT
	}
}`) + "\n")
}
