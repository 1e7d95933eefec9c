// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/scratch"
)

// drift is a way in which a namespace stops being as it should be.
type drift struct {
	why     string
	script  string
	writer  string // the program that is named; "" where the kernel names none: inet6_ifa_notify of net/ipv6/addrconf.c
	config  string // of the pod, "" for annotated
	blocked bool   // it is another's, and is told of and left
	after   string // what ends it then
}

const anyRule = `h=$(nft -a list chain inet weir output | sed -n 's/.*handle \([0-9]*\)$/\1/p' | tail -1); `

var drifts = []drift{
	{why: "a rule is deleted", script: anyRule + "nft delete rule inet weir output handle $h", writer: "nft"},
	{why: "a rule is added", script: "nft insert rule inet weir output meta l4proto tcp return", writer: "nft"},
	{why: "a rule is replaced", script: anyRule + "nft replace rule inet weir output handle $h counter return", writer: "nft"},
	{why: "an element is added", script: "nft add element inet weir outbound_exclude_ipv4 '{ 203.0.113.0/24 }'", writer: "nft"},
	{why: "an element is deleted", script: "nft delete element inet weir proxy_uids '{ 1337 }'", writer: "nft"},
	{why: "a chain is flushed", script: "nft flush chain inet weir output", writer: "nft"},
	{why: "the table is deleted", script: "nft delete table inet weir", writer: "nft"},
	{why: "the table is dormant", script: "nft add table inet weir '{ flags dormant; }'", writer: "nft"},
	{why: "everything is flushed", script: "nft flush ruleset", writer: "nft"},
	{why: "a chain of others runs first", script: `nft add table ip other; nft add chain ip other out '{ type nat hook output priority -150; }'; nft add rule ip other out tcp dport 80 redirect to :9`,
		writer: "nft", blocked: true, after: "nft delete table ip other"},
	{why: "policy rules are deleted", script: "ip rule del priority $(ip rule | sed -n 's/^\\([0-9]*\\):.*fwmark.*/\\1/p' | head -1)", writer: "netlink port"},
	{why: "the routes are deleted", script: "ip route flush table $(ip rule | sed -n 's/.*fwmark.*lookup \\([0-9]*\\).*/\\1/p' | head -1)", writer: "netlink port"},
	{why: "the address on lo is deleted", script: "ip address del ::6/128 dev lo"},
	{why: "a route beside the main table's is deleted", script: "ip route del local 127.0.0.1 dev eth0 table local proto 119", writer: "netlink port"},
	{why: "a setting is changed", script: "echo 0 >/proc/sys/net/ipv4/tcp_fwmark_accept", config: untracked},
}

// podsOf are the node's pods in which something can drift in that way.
func (n *testNode) podsOf(d drift) (out []*testPod) {
	for _, p := range n.pods {
		if p.config == cmp.Or(d.config, annotated) {
			out = append(out, p)
		}
	}
	return out
}

// TestDrift: whatever is changed in a pod's namespace is noticed, healed and told with who did it, and what is
// not changed is not.
func TestDrift(t *testing.T) {
	need(t, "nft", "ip")
	n := newTestNode(t, len(drifts)+3)
	n.addPod("untracked", untracked)
	n.start()
	n.settled()
	touched := map[*testPod]bool{}
	for i, d := range drifts {
		if testing.Short() && i%3 != 0 {
			continue
		}
		pods := n.podsOf(d)
		p := pods[i%len(pods)]
		touched[p] = true
		n.drift(p, d)
	}
	for _, p := range n.pods {
		if touched[p] {
			continue
		}
		if got := n.told.of(p.name); len(got) != 1 || !got[0].First || !got[0].Healed {
			t.Errorf("%s, which was not touched: %+v", p.name, got)
		}
	}
}

// drift changes a pod's namespace, and returns how long it took until that was noticed and until it was healed.
func (n *testNode) drift(p *testPod, d drift) (noticed, healed time.Duration) {
	n.Helper()
	_, before := n.told.latest(p.name)
	start := time.Now()
	p.sh(n, d.script)
	var got keep.Finding
	scratch.Eventually(n, d.why+": it is told", func() bool {
		var count int
		got, count = n.told.latest(p.name)
		return count > before && (got.Healed || d.blocked && len(got.Conflicts) > 0)
	})
	healed = time.Since(start)
	if d.writer == "" && len(got.Writers) > 0 || d.writer != "" && !slices.ContainsFunc(got.Writers, func(w string) bool { return strings.HasPrefix(w, d.writer) }) {
		n.Errorf("%s: written by %q, want %s", d.why, got.Writers, d.writer)
	}
	if d.after != "" {
		p.sh(n, d.after)
		scratch.Eventually(n, d.why+": it is told that it has ended", func() bool {
			latest, _ := n.told.latest(p.name)
			return len(latest.Conflicts) == 0
		})
	}
	return got.Noticed, healed
}
