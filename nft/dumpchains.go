// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// chains dumps every chain of the namespace, by table. While another program
// prepares to add one, the kernel may list the last ones again (seen on 6.18).
func (c *Conn) chains(ctx context.Context) (map[familyTable][]*rules.Chain, error) {
	chains, _, err := c.chainsAndHandles(ctx)
	return chains, err
}

// chainsAndHandles are the chains, and the highest handle of a base chain of each table.
func (c *Conn) chainsAndHandles(ctx context.Context) (map[familyTable][]*rules.Chain, map[familyTable]uint64, error) {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETCHAIN)), nfgen(unix.AF_UNSPEC, 0))
	if err != nil {
		return nil, nil, fmt.Errorf("nftables: list chains: %w", err)
	}
	out, made := map[familyTable][]*rules.Chain{}, map[familyTable]uint64{}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return nil, nil, err
		}
		key := familyTable{m.Data[0], a.Text(unix.NFTA_CHAIN_TABLE)}
		chain := &rules.Chain{Name: a.Text(unix.NFTA_CHAIN_NAME), Others: chainOthers(a.Number(nftaChainFlags))}
		if hook := a.Take(unix.NFTA_CHAIN_HOOK); hook != nil {
			if chain.Base, err = liftBase(m.Data[0], a, hook); err != nil {
				return nil, nil, err
			}
			made[key] = max(made[key], a.Number(unix.NFTA_CHAIN_HANDLE))
		}
		out[key] = append(out[key], chain)
	}
	for key, list := range out {
		out[key] = once(list, func(c *rules.Chain) string { return c.Name })
	}
	return out, made, nil
}

// chainOthers is what a chain's flags say and the model does not know, as chains
// that nft writes within the rule that jumps there.
func chainOthers(flags uint64) string {
	if flags&^chainBase == 0 {
		return ""
	}
	return fmt.Sprintf("flags 0x%x", flags&^chainBase)
}

// once keeps the first of each key.
func once[T any](list []T, key func(T) string) []T {
	if len(list) < 2 {
		return list
	}
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		k := key(v)
		again := seen[k]
		seen[k] = true
		return again
	})
}

func liftBase(family uint8, a nl.Attributes, hook []byte) (*rules.Base, error) {
	h, err := nl.Decode(hook)
	if err != nil {
		return nil, err
	}
	b := &rules.Base{
		Type:     rules.ChainType(a.Text(unix.NFTA_CHAIN_TYPE)),
		Hook:     liftHook(family, h.Number(unix.NFTA_HOOK_HOOKNUM)),
		Priority: int32(h.Number(unix.NFTA_HOOK_PRIORITY)),
		Drop:     a.Number(unix.NFTA_CHAIN_POLICY) == 0,
	}
	devices, err := list(h.Take(nftaHookDevs))
	for _, d := range devices {
		b.Devices = append(b.Devices, nl.Text(d))
	}
	return b, err
}

// liftHook is a hook by its number, of which arp and netdev have series of their own
// (linux/netfilter_arp.h, linux/netfilter_netdev.h).
func liftHook(family uint8, number uint64) rules.Hook {
	var own []rules.Hook
	switch family {
	case unix.NFPROTO_ARP:
		own = []rules.Hook{rules.Input, rules.Output, rules.Forward}
	case unix.NFPROTO_NETDEV:
		own = []rules.Hook{rules.Ingress, rules.Egress}
	}
	if number < uint64(len(own)) {
		return own[number]
	}
	return rules.Hook(number)
}
