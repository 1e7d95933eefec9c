//go:build linux

package nft

import (
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestChainsWhileAnotherPrepares reads while another program's long batches add
// a chain before ours and take it out again.
func TestChainsWhileAnotherPrepares(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if err := nftLoad("add table inet other; add table inet weir; add chain inet weir only"); err != nil {
		t.Fatal(err)
	}
	long := &rules.Chain{Name: "long"}
	for range 4000 {
		long.Add("", rules.Counter{}, rules.Drop())
	}
	other := &rules.Table{Name: "other", Chains: []*rules.Chain{long}}
	b := &batch{}
	l := lower(b, other)
	l.addAll(other, nil)
	l.flushChain("long")
	l.deleteChain("long")
	writer, reader := dialKernel(t), dialKernel(t)
	ended := make(chan error)
	go func() {
		for range 20 {
			if err := writer.commit(t.Context(), b, 0); err != nil {
				ended <- err
			}
		}
		close(ended)
	}()
	for n := 0; ; n++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d reads", n)
			return
		default:
		}
		chains, err := reader.chains(t.Context())
		if err != nil {
			continue // interrupted by a commit
		}
		if list := chains[inet("weir")]; len(list) != 1 {
			t.Errorf("read %d finds %d chains of one", n, len(list))
		}
	}
}
