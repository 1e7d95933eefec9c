// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// replaceGuard lets nat see all connections but those that are open. Nobody
// else's commit is in its way: it names the guard's rules by their handles.
func (w *work) replaceGuard(ctx context.Context, table *rules.Table) error {
	handles, err := w.conn.guards(ctx, table.Name)
	if err != nil {
		return w.blameGeneration(ctx, err)
	}
	if len(handles) == 0 {
		return fmt.Errorf("the guard of the open connections is gone: %w", errGeneration)
	}
	elements, err := w.openElements(ctx)
	if err != nil {
		return err
	}
	for _, f := range continuity.KeepsOpen(table) {
		set := continuity.OpenSet(f)
		for chunk := range slices.Chunk(elements[f], elementsAtOnce) {
			if err := w.commitAnyway(ctx, func(b *batch) { lower(b, table).addElements(set, chunk) }); err != nil {
				return err
			}
		}
	}
	return w.commitAnyway(ctx, func(b *batch) {
		l := lower(b, table)
		for _, g := range handles {
			l.deleteRule(g)
		}
	})
}

// guard is a rule that stands in until the open connections are known.
type guard struct {
	chain  string
	handle uint64
}

// guards are the guard's rules in a table.
func (c *Conn) guards(ctx context.Context, table string) (out []guard, err error) {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETRULE)), request(table, nil))
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return nil, err
		}
		g := guard{a.Text(unix.NFTA_RULE_CHAIN), a.Number(unix.NFTA_RULE_HANDLE)}
		exprs, err := list(a.Take(unix.NFTA_RULE_EXPRESSIONS))
		if err != nil {
			return nil, err
		}
		reason := liftReason(a)
		if reason != continuity.OpenGuard().Reason {
			continue
		}
		r := rules.Rule{Reason: reason, Nodes: liftRule(exprs, nil, 0)}
		if continuity.IsGuard(r) && !slices.Contains(out, g) { // listed again as rules are
			out = append(out, g)
		}
	}
	return out, nil
}

func (l *lowering) deleteRule(g guard) {
	l.add(change{typ: unix.NFT_MSG_DELRULE, where: "chain " + g.chain, kind: "rule", data: l.object(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_CHAIN, g.chain)
		ae.Uint64(unix.NFTA_RULE_HANDLE, g.handle)
	})})
}
