// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// TestReleaseAll: a release takes out every capture of the node, by whatever name and whether or not the agent made
// it, and keeps it out until it is resumed; what others have there stays.
func TestReleaseAll(t *testing.T) {
	need(t, "nft", "ip")
	n := newTestNode(t, 2)
	n.pods[1].sh(t, "ip link set lo up; nft add table inet theirs")
	other, err := netns.Open(n.pods[1].Path())
	scratch.Must(t, err)
	defer other.Close()
	named, err := capture.New(other, modes.Config{Mode: modes.ModeSidecar, Table: "mine", Proxy: modes.Proxy{UIDs: []string{"1338"}}}, capture.Options{})
	scratch.Must(t, err)
	defer named.Close()
	_, err = named.Apply(t.Context())
	scratch.Must(t, err)

	n.start()
	n.settled()
	watched := make(chan error, 1)
	go func() { watched <- n.agent.WatchFolders(t.Context()) }()
	t.Cleanup(func() { scratch.Must(t, <-watched) })
	var removed []string
	tables := func(p *testPod) (out string) {
		t.Helper()
		ns, err := netns.Open(p.Path())
		scratch.Must(t, err)
		defer ns.Close()
		names, err := tablesOf(t.Context(), ns)
		scratch.Must(t, err)
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	scratch.Eventually(t, "both are captured and counted", func() bool {
		return tables(n.pods[0]) == "weir weir-escapes" && tables(n.pods[1]) == "mine weir weir-escapes"
	})
	scratch.Must(t, n.host.Do(func() error {
		return ReleaseAll(t.Context(), n.state, n.agent.Sources, func(p inventory.Pod, r capture.Report) {
			removed = append(removed, p.Name+" "+r.Table)
		})
	}))
	slices.Sort(removed)
	// A look that was under way when the release began removes by itself what it put back.
	if want := []string{"pod-0 weir", "pod-1 mine", "pod-1 weir"}; len(removed) == 0 || slices.ContainsFunc(removed, func(r string) bool { return !slices.Contains(want, r) }) {
		t.Errorf("released %q, want of %q", removed, want)
	}
	scratch.Eventually(t, "the agent leaves both", func() bool {
		return !slices.ContainsFunc(n.agent.Pods(), func(s Status) bool { return s.State != StateReleased })
	})
	for _, p := range n.pods {
		if got := tables(p); got != "" {
			t.Errorf("%s still has %s", p.name, got)
		}
	}
	n.pods[1].sh(t, "nft list table inet theirs")

	scratch.Must(t, Resume(n.state))
	n.settled()
	if Resume(n.state) == nil {
		t.Error("a node that is not released was resumed")
	}
}
