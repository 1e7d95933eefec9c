// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// A socket that calls a link-local address of IPv6 is bound to its interface, as one with
// SO_BINDTODEVICE is, and means what is on that link. IPv4's 169.254.0.0/16 binds no socket.

var linkLocal = []netip.Prefix{netip.MustParsePrefix("fe80::/10")}

const linkLocalCaptured = "captured"

// leaveLinkLocal keeps what is for a link-local address of IPv6 from what follows.
func (c *chainWriter) leaveLinkLocal(then ...rules.Node) {
	c.add("a link-local address is reached by its own interface, and the proxy is not: left alone",
		append([]rules.Node{rules.Daddr.In(linkLocal...)}, then...)...)
}

// guardLoopback drops what was redirected to a loopback address and would leave by another
// interface than lo: what a socket sends that is bound to an interface which came, or lost its
// route ([reader.boundRoutes]), since the apply. Nat chains see first packets only: established
// connections pay nothing.
func (w *writer) guardLoopback() {
	out := w.base("postrouting", rules.NATType, rules.Postrouting, rules.PrioritySrcNAT-1)
	out.add("what is redirected never leaves this pod: a socket that is bound to an interface cannot reach the proxy",
		rules.OIfName.Not("lo"), rules.Daddr.In(ownAddresses...), rules.L4Proto.In(rules.TCP, rules.UDP), rules.Drop())
}
