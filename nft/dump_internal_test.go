// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// whileAnother calls read again and again beside another program that commits,
// so many times.
func whileAnother(t *testing.T, commits int, fill func(*batch), read func(*Conn)) {
	t.Helper()
	if testing.Short() {
		commits = max(commits/4, 1)
	}
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
		var got *rules.Table
		_, err := c.atOneGeneration(t.Context(), func() (err error) {
			got, err = c.tableAlone(t.Context(), "weir", everything())
			return err
		})
		if err != nil {
			return // a commit came between
		}
		if list := got.Chain("only").Rules; len(list) != 1 {
			t.Errorf("one rule is read as %d", len(list))
		}
	})
}

// TestElementsListedAgain: the dump of a hash table that grows meanwhile.
func TestElementsListedAgain(t *testing.T) {
	tag := newTag(captured(0).Normal(), "test", nil, nil)
	written := tag.set().Elements
	part := func(order ...int) netlink.Message {
		s := tag.set()
		var list []byte
		for _, i := range order {
			list = appendElement(list, s, written[i])
		}
		return netlink.Message{Data: append(nfgen(unix.NFPROTO_INET, 0), encode(func(ae *netlink.AttributeEncoder) {
			ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, list)
		})...)}
	}
	empty := part()
	for _, tt := range []struct {
		why     string
		dynamic bool
		msgs    []netlink.Message
		want    int
		err     error
	}{
		{"from its start again", false, []netlink.Message{part(3, 4, 2, 1, 0, 5, 3, 0, 1, 2), empty}, 6, nil},
		{"in two parts", false, []netlink.Message{part(3, 4, 2), part(0, 1, 5), empty}, 6, nil},
		{"the second part begins elsewhere, and 4 is passed over", false, []netlink.Message{part(3, 2, 1), part(1, 0, 5), empty}, 0, errGeneration},
		{"packets add elements", true, []netlink.Message{part(3, 2, 1), part(1, 0, 5), empty}, 5, nil},
	} {
		s := tag.set()
		s.Elements, s.Dynamic = nil, tt.dynamic
		if err := liftSetElements(s, tt.msgs); !errors.Is(err, tt.err) || len(s.Elements) != tt.want {
			t.Errorf("%s: %d elements, %v", tt.why, len(s.Elements), err)
		}
		if tt.want == 6 && parseTag(s) == nil {
			t.Errorf("%s: the tag cannot be read", tt.why)
		}
	}
}

// TestChainFinder finds what a table finds, among few chains and among many.
func TestChainFinder(t *testing.T) {
	for _, n := range []int{0, 1, 16, 17, 100} {
		table := &rules.Table{}
		for i := range n {
			table.Chains = append(table.Chains, &rules.Chain{Name: fmt.Sprint(i % 40)})
		}
		find := chainFinder(table)
		for i := range 50 {
			if name := fmt.Sprint(i); find(name) != table.Chain(name) {
				t.Errorf("of %d chains %s is found as %v", n, name, find(name))
			}
		}
	}
}
