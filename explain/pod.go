//go:build linux

package explain

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// AssumedLinks are the interfaces of a pod of which nothing is known: eth0, with an
// address of each family.
func AssumedLinks() []sim.Link {
	return []sim.Link{{Name: "eth0", Addresses: []netip.Prefix{
		netip.MustParsePrefix("10.244.1.5/24"), netip.MustParsePrefix("2001:db8:244:1::5/64")}}}
}

// Pod is a host that nobody looked at: it has those interfaces (without any, the
// [AssumedLinks]), default routes by the first of them, and its listeners listen.
func Pod(links ...sim.Link) sim.Host {
	if len(links) == 0 {
		links = AssumedLinks()
	}
	h := sim.NewHost(links...)
	for _, everywhere := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		h.Routes = append(h.Routes, sim.Route{Table: unix.RT_TABLE_MAIN, Dst: netip.PrefixFrom(everywhere, 0), Type: rules.Unicast, Out: links[0].Name})
	}
	h.Assumes = true
	return h
}

// withoutListeners is the host where no socket is open.
func withoutListeners(h sim.Host) sim.Host {
	h.Assumes, h.Sockets = false, nil
	return h
}
