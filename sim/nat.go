// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"github.com/weir-mesh/weir/rules"
)

// nat lets the first packet of a connection through the nat chains, until one
// decides, and turns the addresses of every packet (nf_nat_inet_fn).
func (w *walk) nat(chains []baseChain) {
	c := w.track.Connection
	if c == nil {
		return
	}
	done := &c.dstDone
	if w.hook == rules.Input || w.hook == rules.Postrouting {
		done = &c.srcDone
	}
	if w.track.state == rules.CTNew || w.track.state == rules.CTRelated {
		for _, chain := range chains {
			if *done {
				break
			}
			if chain.sees(&w.packet) {
				w.callBase(chain)
			}
			if w.ended {
				return
			}
		}
		*done = true
	}
	w.translate(c)
}

// translate gives the packet the addresses that nat chose for its connection.
func (w *walk) translate(c *Connection) {
	p := &w.packet
	src, dst := p.Src, p.Dst
	onDst := w.hook == rules.Prerouting || w.hook == rules.Output
	switch {
	case onDst && !w.track.reply && c.To != c.Dst:
		p.Dst = c.To
	case onDst && w.track.reply && c.From != c.Src:
		p.Dst = c.Src
	case !onDst && !w.track.reply && c.From != c.Src:
		p.Src = c.From
	case !onDst && w.track.reply && c.To != c.Dst:
		p.Src = c.Dst
	}
	if p.Src != src {
		w.kernel("nat: from %s, not from %s", p.Src, src)
	}
	if w.hook == rules.Output && p.Dst.Addr() != dst.Addr() {
		w.reroute()
	}
}
