// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// seedEnv may hold another seed to begin with than 0.
const seedEnv = "WEIR_NFT_TEST_SEED"

// TestRandomStatesHold applies states made at random to a kernel, which must
// hold them as they were meant; nft must take their text, and the kernel then
// hold the same.
func TestRandomStatesHold(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	budget := 8 * time.Second
	if testing.Short() {
		budget = 300 * time.Millisecond
	}
	c := dialKernel(t)
	seed, err := strconv.ParseUint(os.Getenv(seedEnv), 10, 64)
	if err == nil {
		budget = 50 * time.Second // a person is looking for trouble
	}
	first := seed
	tables, rulesHeld := 0, 0
	for start := time.Now(); time.Since(start) < budget; seed++ {
		state := rules.State{Table: (&chooser{data: randomBytes(seed, 4000), loading: true}).randomTable()}
		if state.Check() != nil {
			continue // rules that pass one by one can jump in a circle, or too deep
		}
		want := state.Normal()
		replaceKernelTable(t, c, want.Table)
		if d := want.Compare(kernelState(t, c)); len(d) > 0 {
			t.Fatalf("seed %d: applied\n%s\nand found different: %v", seed, want, d)
		}
		if err := nftLoad(want.String()); err != nil {
			t.Fatalf("seed %d: nft takes\n%s\nfor wrong: %v", seed, want, err)
		}
		if d := want.Compare(kernelState(t, c)); len(d) > 0 {
			t.Fatalf("seed %d: loaded\n%s\nby nft, and found different: %v", seed, want, d)
		}
		tables++
		for _, chain := range want.Table.Chains {
			rulesHeld += len(chain.Rules)
		}
	}
	t.Logf("seeds %d to %d: %d tables with %d rules", first, seed, tables, rulesHeld)
	if tables == 0 {
		t.Error("not one table was tried")
	}
}
