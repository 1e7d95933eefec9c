// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// log lifts a copy to a group: without one the kernel writes into its own log.
func (l *lifter) log(a nl.Attributes) bool {
	grouped := a.Has(unix.NFTA_LOG_GROUP)
	n := rules.Log{Group: uint16(a.Number(unix.NFTA_LOG_GROUP)), Snaplen: uint32(a.Number(unix.NFTA_LOG_SNAPLEN))}
	threshold := a.Number(unix.NFTA_LOG_QTHRESHOLD)
	return grouped && threshold == 0 && a.AllTaken() && l.node(n)
}

func (l *lifter) dynset(a nl.Attributes) bool {
	op, set := a.Number(unix.NFTA_DYNSET_OP), l.sets[a.Text(unix.NFTA_DYNSET_SET_NAME)]
	register := uint32(a.Number(unix.NFTA_DYNSET_SREG_KEY))
	timeout := milliseconds(a.Number(unix.NFTA_DYNSET_TIMEOUT))
	a.Take(unix.NFTA_DYNSET_SET_ID)
	a.Take(nftaDynsetPad)
	inverted := a.Number(unix.NFTA_DYNSET_FLAGS)&unix.NFT_DYNSET_F_INV != 0
	if inverted || set == nil || set.Name == "" || op > unix.NFT_DYNSET_OP_UPDATE || !a.AllTaken() {
		return false
	}
	key, mask, ok := l.key(register, set)
	return ok && mask == "" && l.node(rules.Dynset{Update: op == unix.NFT_DYNSET_OP_UPDATE, Key: key, Set: set.Name, Timeout: timeout})
}
