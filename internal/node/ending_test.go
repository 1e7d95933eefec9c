// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"testing"

	"github.com/weir-mesh/weir/internal/agent"
)

// TestEnding: what the runtime takes away of a pod that ends is neither put back nor told of, and is once the pod stays.
func TestEnding(t *testing.T) {
	need(t, "nft", "ip")
	n := newTestNode(t, 3)
	ends, unlinked, watched := n.pods[0], n.pods[1], n.pods[2]
	n.start()
	n.settled()
	leftAlone := func(p *testPod) {
		t.Helper()
		before := len(n.told.of(p.name))
		p.sh(t, "nft delete table inet weir")
		n.drift(watched, drifts[0]) // which is heard of later
		if err := p.Do(func() error { return run("nft", "list", "table", "inet", "weir") }); err == nil {
			t.Errorf("the rules of %s were put back", p.name)
		}
		if got := n.told.of(p.name); len(got) > before {
			t.Errorf("%s is told of: %+v", p.name, got[before:])
		}
	}

	n.agent.Answer(t.Context(), agent.Request{Command: agent.Del, Netns: ends.Path()})
	leftAlone(ends)
	n.agent.Answer(t.Context(), agent.Request{Command: agent.Check, Netns: ends.Path(), Namespace: "shop", Name: ends.name})
	n.drift(ends, drift{why: "a pod whose network is checked", script: "nft add table ip other", writer: "nft"})

	unlinked.sh(t, "ip link del eth0")
	leftAlone(unlinked)
	n.drift(unlinked, drift{why: "a network that is made again", writer: "netlink port",
		script: "ip link add eth0 type veth peer name peer; ip address add 10.88.9.9/24 dev eth0; ip link set eth0 up"})
}
