// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// marshalLog leaves out what is not set: the library's encoder knows no snaplen of 0.
func marshalLog(n rules.Log) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_EXPR_NAME, "log")
		nested(ae, unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) {
			ae.Uint16(unix.NFTA_LOG_GROUP, n.Group)
			if n.Snaplen > 0 {
				ae.Uint32(unix.NFTA_LOG_SNAPLEN, n.Snaplen)
			}
		})
	})
}

// dynset leaves the counter or the quota of an element to the set, which has every element
// begin with one.
func (w *ruleWriter) dynset(n rules.Dynset) {
	w.settle(n.Key)
	w.load(n.Key, "", false)
	w.raw(encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_EXPR_NAME, "dynset")
		nested(ae, unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) {
			op := uint32(unix.NFT_DYNSET_OP_ADD)
			if n.Update {
				op = unix.NFT_DYNSET_OP_UPDATE
			}
			ae.Uint32(unix.NFTA_DYNSET_OP, op)
			ae.String(unix.NFTA_DYNSET_SET_NAME, n.Set)
			ae.Uint32(unix.NFTA_DYNSET_SREG_KEY, firstRegister)
			if n.Timeout > 0 {
				ae.Uint64(unix.NFTA_DYNSET_TIMEOUT, uint64(n.Timeout/time.Millisecond))
			}
		})
	}))
}
