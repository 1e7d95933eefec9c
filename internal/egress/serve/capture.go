// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/weir-mesh/weir/internal/egress/settings"
	"github.com/weir-mesh/weir/internal/egress/virtual"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// Table is the nftables table of what is captured.
const Table = "weir-serve"

const (
	mark     = 0x5e7 // of the server's own packets, by which they are not captured
	markMask = 0xfff
)

// Config is what the settings have captured: virtual addresses and port 53, and where there are wildcards port 443.
func Config(s *settings.Serve) modes.Config {
	c := modes.Config{Mode: modes.ModeSidecar, Table: Table,
		Proxy:    modes.Proxy{Mark: modes.MarkWord(fmt.Sprintf("%#x/%#x", mark, markMask)), OwnCalls: "left"},
		Inbound:  modes.Inbound{Via: "none"},
		Outbound: modes.Outbound{Port: modes.PortWord(strconv.Itoa(int(s.Port))), IncludeCIDRs: []string{s.Pool.IPv4.String(), s.Pool.IPv6.String()}},
		DNS:      modes.DNS{Capture: "all", Port: modes.PortWord(strconv.Itoa(int(s.DNSPort)))},
		Loopback: modes.Loopback{Passthrough: []string{}},
	}
	if s.HasWildcard() {
		c.Outbound.IncludePorts = []modes.PortWord{"443"}
	}
	if s.Untracked {
		c.Conntrack, c.Outbound.Via = "none", "tproxy"
		c.DNS.Capture = "servers" // whose queries are rewritten; others would have to be answered from port 53
	}
	for _, name := range s.Reroute {
		c.Interfaces.Reroute = append(c.Interfaces.Reroute, modes.Rerouted{Name: name, DNS: "enabled"})
	}
	return c
}

// InUseError is that virtual addresses would hide others.
type InUseError struct {
	Prefix netip.Prefix
	By     string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("virtual addresses of %s: %s is in use here: choose another prefix (serve.virtual)", e.Prefix, e.By)
}

// free checks that nothing in the namespace has to do with the prefixes.
func free(ctx context.Context, ns *netns.Namespace, pool virtual.Pool) error {
	host, err := ns.Stack(ctx)
	if err != nil {
		return err
	}
	for _, prefix := range []netip.Prefix{pool.IPv4, pool.IPv6} {
		for _, link := range host.Links {
			for _, a := range link.Addresses {
				if prefix.Overlaps(a.Masked()) {
					return &InUseError{prefix, fmt.Sprintf("address %s of %s", a, link.Name)}
				}
			}
		}
		for _, route := range host.Routes {
			if route.Dst.Bits() > 0 && route.Dst.Bits() >= leastPrefix(prefix) && prefix.Overlaps(route.Dst) {
				return &InUseError{prefix, "a route to " + route.Dst.String()}
			}
		}
	}
	return nil
}

// leastPrefix tells routes that are for something in particular from those for a large part of all addresses, such as
// 0.0.0.0/1 and 128.0.0.0/1 of a VPN, which is where a virtual address may well be sent.
func leastPrefix(p netip.Prefix) int { return min(p.Bits(), 9) }
