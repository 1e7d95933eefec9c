// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/problems"
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

// Pod is a host that is assumed, not read: it has those interfaces (without any, the
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

// ParsePod is [Pod] with addresses in words, INTERFACE=PREFIX each: eth0=10.244.1.5/24.
// The error joins what is wrong with each.
func ParsePod(addresses ...string) (sim.Host, error) {
	var links []sim.Link
	var errs []error
	for _, w := range addresses {
		name, text, _ := strings.Cut(w, "=")
		p, err := netip.ParsePrefix(text)
		if err != nil || !isInterface(name) || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("%q is not an address of an interface (want such as eth0=10.244.1.5/24)", w))
			continue
		}
		i := slices.IndexFunc(links, func(l sim.Link) bool { return l.Name == name })
		if i < 0 {
			i, links = len(links), append(links, sim.Link{Name: name})
		}
		links[i].Addresses = append(links[i].Addresses, p)
	}
	return Pod(links...), problems.Join(errs...)
}

// withoutListeners is the host where no socket is open.
func withoutListeners(h sim.Host) sim.Host {
	h.Assumes, h.Sockets = false, nil
	return h
}
