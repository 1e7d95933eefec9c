// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"fmt"
	"testing"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/netns"
)

const redirected = `{"version": 1, "mode": "sidecar", "proxy": {"uids": [1337]}, "inbound": {"excludePorts": [9090]}, "outbound": {"excludeCIDRs": ["10.9.0.0/16"]}}`

// TestEscapes: what another program lets pass a pod's proxy by is counted and told, and nothing else is.
func TestEscapes(t *testing.T) {
	need(t, "nft", "ip", "setpriv", "bash")
	n := newTestNode(t, 0)
	for i := range 2 {
		p := n.addPod(fmt.Sprintf("pod-%d", i), redirected)
		p.sh(t, "ip link set lo up; ip route add default dev eth0")
		scratch.Must(t, n.host.Up(fmt.Sprintf("veth%d", i)))
	}
	n.start()
	n.settled()
	counting := func(p *testPod) {
		t.Helper()
		scratch.Eventually(t, p.name+" is counted", func() bool {
			return p.Do(func() error { return run("sh", "-ec", "nft list table inet weir; nft list table inet weir-escapes") }) == nil
		})
	}
	out, in := n.pods[0], n.pods[1]
	counting(out)
	counting(in)
	connect := func(p *testPod, as, to, port string) {
		t.Helper()
		p.sh(t, fmt.Sprintf("setpriv --reuid %s --clear-groups timeout 0.3 bash -c 'echo > /dev/tcp/%s/%s' 2>/dev/null || :", as, to, port))
	}
	fromHost := func(port string) {
		t.Helper()
		scratch.Must(t, n.host.Do(func() error {
			return run("sh", "-c", "timeout 0.3 bash -c 'echo > /dev/tcp/10.88.0.1/"+port+"' 2>/dev/null || :")
		}))
	}
	told := func(p *testPod) escapes.Count {
		n.agent.readCounts(t.Context())
		n.told.mu.Lock()
		defer n.told.mu.Unlock()
		return n.told.escaped[p.name]
	}
	scratch.Must(t, n.host.Do(func() error { return run("ip", "address", "add", "10.88.0.200/24", "dev", "veth1") }))

	connect(out, "0", "10.77.0.1", "80")    // captured: nobody listens there, and it is refused
	connect(out, "0", "10.9.0.1", "80")     // excluded
	connect(out, "1337", "10.77.0.1", "80") // the proxy's own
	fromHost("8080")                        // captured
	fromHost("9090")                        // excluded
	if a, b := told(out), told(in); a != (escapes.Count{}) || b != (escapes.Count{}) {
		t.Errorf("without an escape %+v and %+v are counted", a, b)
	}

	out.sh(t, `nft add table ip other; nft add chain ip other out '{ type nat hook output priority -150; }'; nft add rule ip other out tcp dport 80 dnat to 10.77.0.9:81`)
	// A busy machine may end the client before it has sent anything.
	escaped := func(p *testPod, connect func(), is func(escapes.Count) bool) {
		t.Helper()
		scratch.Eventually(t, "an escape of "+p.name+" is counted", func() bool { connect(); return is(told(p)) })
	}
	escaped(out, func() { connect(out, "0", "10.77.0.1", "80") }, func(c escapes.Count) bool { return c.Out > 0 })
	if got := told(out); got.In != 0 {
		t.Errorf("another program's chain decides first, and %+v is counted", got)
	}
	in.sh(t, `nft add table ip other; nft add chain ip other in '{ type filter hook prerouting priority -300; }'; nft add rule ip other in notrack`)
	escaped(in, func() { fromHost("8080") }, func(c escapes.Count) bool { return c.In > 0 })
	if got := told(in); got.Out != 0 {
		t.Errorf("another program keeps conntrack from what comes in, and %+v is counted", got)
	}

	// The counters go with the rules, and are there again.
	out.sh(t, "nft flush ruleset")
	counting(out)
	before := told(out)
	connect(out, "0", "10.77.0.1", "80")
	if got := told(out); got != before {
		t.Errorf("after a flush and its heal %+v is counted, before %+v", got, before)
	}
	for _, s := range n.agent.Pods() {
		if s.Escaped == 0 {
			t.Errorf("weir list would not tell of it: %+v", s)
		}
	}
}

// TestCountCoversNoCommitOfAnother: a change that comes while a look counts is not taken for the count's own commit.
func TestCountCoversNoCommitOfAnother(t *testing.T) {
	need(t, "nft", "ip")
	n := newTestNode(t, 0)
	pod := n.addPod("pod", redirected)
	n.start()
	n.settled()
	n.stop()
	ns, err := netns.Open(pod.Path())
	scratch.Must(t, err)
	defer ns.Close()
	_, known := n.agent.at(pod.Path())
	w := &look{Agent: n.agent, pod: known, ns: ns}
	d, err := n.agent.Node.Decide(n.agent.describe(known))
	scratch.Must(t, err)
	c, err := cni.NewCapture(t.Context(), ns, d, nil, capture.Options{LoopbackLater: true})
	scratch.Must(t, err)
	defer c.Close()
	want, _, err := c.State(t.Context())
	scratch.Must(t, err)
	covered := func(meanwhile string) (more uint32) {
		t.Helper()
		v, err := c.Verify(t.Context())
		scratch.Must(t, err)
		pod.sh(t, meanwhile)
		result := keep.Result{Generation: v.Generation}
		w.count(t.Context(), want, &result)
		return result.Generation - v.Generation
	}
	pod.sh(t, "nft list tables | grep -q weir-escapes && nft delete table inet weir-escapes || :")
	if n := covered(":"); n != 1 {
		t.Errorf("the count's own commit is covered as %d", n)
	}
	if n := covered(":"); n != 0 {
		t.Errorf("without a commit %d are covered", n)
	}
	if n := covered("nft add table ip other"); n != 0 {
		t.Errorf("another's commit is covered as %d", n)
	}
}
