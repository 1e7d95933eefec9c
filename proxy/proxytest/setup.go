// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import "net/netip"

// Via is how inbound connections are diverted. Outbound ones are diverted by REDIRECT always.
type Via string

// Ways to divert.
const (
	Redirect Via = "redirect"
	TProxy   Via = "tproxy"
)

// Setup is what is asked of the proxy, as a sidecar of the application in a pod: two listeners, and
// how the connections go on from each.
type Setup struct {
	Via      Via
	Outbound Side // what the application opens, to the world
	Inbound  Side // what the world opens, to the application
}

// Side is one listener of the proxy and what it dials.
type Side struct {
	// Listen is an unspecified address of IPv6, which stands for every address of both families,
	// and a port.
	Listen netip.AddrPort

	// Transparent says that TPROXY diverts to the listener, which therefore needs IP_TRANSPARENT.
	Transparent bool

	// Mark is the SO_MARK of the onward connections. A listener that TPROXY diverts to must not have
	// it, since its connections inherit it: what they answer would come back as well.
	Mark uint32

	// KeepClient says that the onward connections come from the client's own address, by
	// IP_TRANSPARENT. Its port is not to be kept.
	KeepClient bool

	// Source holds the addresses that the onward connections come from, one for each family. It is
	// empty where the kernel chooses, and with KeepClient.
	Source []netip.Addr
}

// The sides differ in their marks where TPROXY is used: the application's answers to the client's
// own address come back to the proxy by the mark of the connection.
const (
	proxyMark   = 0x53d
	routingMark = 0x539
	markMask    = 0xfff
)

func setup(via Via) Setup {
	listen := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.IPv6Unspecified(), port) }
	s := Setup{
		Via:      via,
		Outbound: Side{Listen: listen(15001), Mark: proxyMark},
		Inbound: Side{
			Listen: listen(15006), Mark: proxyMark,
			Source: []netip.Addr{netip.MustParseAddr("127.0.0.6"), netip.MustParseAddr("::6")},
		},
	}
	if via == TProxy {
		s.Inbound = Side{Listen: s.Inbound.Listen, Transparent: true, Mark: routingMark, KeepClient: true}
	}
	return s
}
