//go:build linux

package nft

import (
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// whileAnother calls read again and again beside another program that commits,
// so many times.
func whileAnother(t *testing.T, commits int, fill func(*batch), read func(*Conn)) {
	t.Helper()
	b := &batch{}
	fill(b)
	writer, reader := dialKernel(t), dialKernel(t)
	ended := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < commits && err == nil; i++ {
			err = writer.commit(t.Context(), b, 0)
		}
		ended <- err
	}()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
			read(reader)
		}
	}
}

// longChain takes a kernel a while to add.
func longChain() *rules.Chain {
	c := &rules.Chain{Name: "long"}
	for range 4000 {
		c.Add("", rules.Counter{}, rules.Drop())
	}
	return c
}

// TestChainsListedAgain: another table, listed before ours, gets a chain, and
// loses it in the same batch.
func TestChainsListedAgain(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if err := nftLoad("add table inet other; add table inet weir; add chain inet weir only"); err != nil {
		t.Fatal(err)
	}
	other := &rules.Table{Name: "other", Chains: []*rules.Chain{longChain()}}
	add := func(b *batch) {
		l := lower(b, other)
		l.addAll(other, nil)
		l.flushChain("long")
		l.deleteChain("long")
	}
	whileAnother(t, 20, add, func(c *Conn) {
		chains, err := c.chains(t.Context())
		if list := chains[inet("weir")]; err == nil && len(list) != 1 {
			t.Errorf("one chain is read as %d", len(list))
		}
	})
}

// TestRulesListedAgain: a chain of the same table, listed before, gets rules.
func TestRulesListedAgain(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if err := nftLoad("add table inet weir; add chain inet weir long; add chain inet weir only; add rule inet weir only counter"); err != nil {
		t.Fatal(err)
	}
	table := &rules.Table{Name: "weir", Chains: []*rules.Chain{longChain()}}
	add := func(b *batch) {
		l := lower(b, table)
		l.addAll(table, nil)
		l.flushChain("long")
	}
	whileAnother(t, 20, add, func(c *Conn) {
		before, _ := c.generation(t.Context())
		got, err := c.tableAlone(t.Context(), "weir")
		after, _ := c.generation(t.Context())
		if err != nil || before != after {
			return
		}
		if list := got.Chain("only").Rules; len(list) != 1 {
			t.Errorf("one rule is read as %d", len(list))
		}
	})
}
