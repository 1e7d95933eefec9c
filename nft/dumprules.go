// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/nftables/userdata"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// rules dumps a table's rules into its chains. While another program prepares to
// add some, the kernel may list those that follow again (seen on 6.18).
func (c *Conn) rules(ctx context.Context, of familyTable, t *rules.Table, sets map[string]*rules.Set, handles map[uint64]RulePlace) error {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETRULE)), of.request(nil))
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	if handles == nil {
		handles = make(map[uint64]RulePlace, len(msgs))
	}
	chain := chainFinder(t)
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return err
		}
		handle := a.Number(unix.NFTA_RULE_HANDLE)
		if _, again := handles[handle]; again {
			continue
		}
		exprs, err := list(a.Take(unix.NFTA_RULE_EXPRESSIONS))
		if err != nil {
			return err
		}
		c := chain(a.Text(unix.NFTA_RULE_CHAIN))
		if c == nil {
			return fmt.Errorf("list rules: %w", errGeneration) // came after the dump of chains
		}
		handles[handle] = RulePlace{c.Name, len(c.Rules)}
		c.Add(liftReason(a), liftRule(exprs, sets, families[of.family])...)
	}
	return nil
}

// chainFinder is t.Chain; of others' chains there may be ten thousands.
func chainFinder(t *rules.Table) func(name string) *rules.Chain {
	const few = 16 // cost less one by one than in a map
	if len(t.Chains) <= few {
		return t.Chain
	}
	byName := make(map[string]*rules.Chain, len(t.Chains))
	for _, c := range slices.Backward(t.Chains) { // the first of a name stays
		byName[c.Name] = c
	}
	return func(name string) *rules.Chain { return byName[name] }
}

func liftReason(a nl.Attributes) string {
	return userText(a.Take(unix.NFTA_RULE_USERDATA), userdata.TypeComment)
}
