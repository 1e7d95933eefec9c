// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"os"
	"testing"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// TestForgedTag: rules with a tag of weir's are left as they are where this node's weir wrote them, which may have known
// more of the pod; a pod that writes them itself, with a tag as good, is captured all the same.
func TestForgedTag(t *testing.T) {
	need(t, "nft", "ip")
	n := newTestNode(t, 3)
	honest, forger, later := n.pods[0], n.pods[1], n.pods[2]
	forge := func(p *testPod) (hash string) {
		t.Helper()
		return writeRules(t, p, "0-4294967294")
	}
	scratch.Must(t, n.written().Note(honest.name, forge(honest)))
	forge(forger)
	n.start()
	n.settled()
	forge(later) // which is healed as any change is
	for _, tt := range []struct {
		pod  *testPod
		left bool
	}{{honest, true}, {forger, false}, {later, false}} {
		scratch.Eventually(t, tt.pod.name+" is as it should be", func() bool {
			err := tt.pod.Do(func() error {
				return run("nft", "get", "element", "inet", "weir", "outbound_exclude_ipv4", "{ 10.9.0.1 }")
			})
			return (err != nil) == tt.left
		})
		if got := n.told.of(tt.pod.name); tt.left == got[0].Healed && tt.pod != later {
			t.Errorf("%s: %+v", tt.pod.name, got)
		}
	}
	n.stop()
	forge(later)
	n.start()
	scratch.Eventually(t, "what was forged between two agents is healed", func() bool {
		return later.Do(func() error {
			return run("nft", "get", "element", "inet", "weir", "outbound_exclude_ipv4", "{ 10.9.0.1 }")
		}) == nil
	})

	// What is found as it should be is noted as well: the plugin of a node whose folder was not writable for it.
	n.stop()
	scratch.Must(t, os.RemoveAll(string(n.written())))
	n.start()
	scratch.Eventually(t, "it is noted", func() bool { return n.written().Wrote(later.name, tagOf(t, later)) })
}

// writeRules captures a pod for a proxy of those users, and returns the hash of that state.
func writeRules(t *testing.T, p *testPod, uids string) string {
	t.Helper()
	ns, err := netns.Open(p.Path())
	scratch.Must(t, err)
	defer ns.Close()
	c, err := capture.New(ns, modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{uids}}}, capture.Options{})
	scratch.Must(t, err)
	defer c.Close()
	report, err := c.Apply(t.Context())
	scratch.Must(t, err)
	return report.State
}

// TestForgedAfterInit: of a pod that an init container captures, what was written first counts: another state with a tag is
// undone and, where an agent finds it that does not know what it took the place of, told.
func TestForgedAfterInit(t *testing.T) {
	need(t, "nft", "ip")
	n := newTestNode(t, 0)
	p := n.addPod("with-init", `{"version": 1, "mode": "none"}`)
	first := writeRules(t, p, "1337")
	n.start()
	is := func(state string) func() bool {
		return func() bool {
			all := n.agent.Pods()
			return len(all) == 1 && all[0].State == state
		}
	}
	scratch.Eventually(t, "what the init container wrote is accepted", is(StateCaptured))
	writeRules(t, p, "0-4294967294")
	scratch.Eventually(t, "what was written over it is undone", func() bool { return tagOf(t, p) == first })
	n.stop()
	forged := writeRules(t, p, "0-4294967294")
	n.start()
	scratch.Eventually(t, "what came while no agent looked is told", is(StateDrifted))
	if got := tagOf(t, p); got != forged {
		t.Errorf("there is %s now: nobody knew the rules of state %s", got, first)
	}
	writeRules(t, p, "1337")
	scratch.Eventually(t, "the first state is accepted again", is(StateCaptured))
}

// tagOf is the hash that a pod's tag tells.
func tagOf(t *testing.T, p *testPod) string {
	t.Helper()
	ns, err := netns.Open(p.Path())
	scratch.Must(t, err)
	defer ns.Close()
	c, err := capture.OfTable(ns, modes.DefaultTable, capture.Options{})
	scratch.Must(t, err)
	defer c.Close()
	live, _, err := c.Live(t.Context())
	scratch.Must(t, err)
	return live.Tag.Hash
}
