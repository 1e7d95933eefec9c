// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"time"

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
	after := a.Number(unix.NFTA_DYNSET_TIMEOUT)
	timeout := milliseconds(after)
	a.Take(unix.NFTA_DYNSET_SET_ID)
	a.Take(nftaDynsetPad)
	flags := a.Number(unix.NFTA_DYNSET_FLAGS)
	if flags != 0 || set == nil || set.Name == "" || op > unix.NFT_DYNSET_OP_UPDATE || uint64(timeout/time.Millisecond) != after || !a.AllTaken() {
		return false
	}
	key, mask, ok := l.key(register, set)
	return ok && mask == "" && l.node(rules.Dynset{Update: op == unix.NFT_DYNSET_OP_UPDATE, Key: key, Set: set.Name, Timeout: timeout})
}
