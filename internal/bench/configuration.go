// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/modes"
)

// manyCIDRs is the list that the bars are about.
const manyCIDRs = 10000

// cidrs are n prefixes, none next to another, one in ten of IPv6.
func cidrs(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		if i%10 == 9 {
			out[i] = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, byte(0xb8 + i>>16), byte(i >> 8), byte(i)}), 49)
		} else {
			out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i)}), 25)
		}
	}
	return out
}

// oneMore is an exclusion that cidrs does not hold.
var oneMore = netip.MustParsePrefix("30.0.0.0/25")

func words[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// configuration is a sidecar's, in the library's words.
func configuration(excluded []netip.Prefix) modes.Config {
	return modes.Config{
		Mode:     modes.ModeSidecar,
		IPv6:     "enabled",
		Proxy:    modes.Proxy{UIDs: []string{proxyID}, GIDs: []string{proxyID}},
		Inbound:  modes.Inbound{ExcludePorts: modes.Ports(leftPorts...)},
		Outbound: modes.Outbound{ExcludeCIDRs: words(excluded)},
	}
}

// document is the same as a file.
func document(excluded []netip.Prefix) string {
	var out strings.Builder
	fmt.Fprintf(&out, "mode: %s\nipv6: enabled\nproxy:\n  uids: [%s]\n  gids: [%s]\ninbound:\n  excludePorts:\n", modes.ModeSidecar, proxyID, proxyID)
	for _, port := range leftPorts {
		fmt.Fprintf(&out, "    - %d\n", port)
	}
	if len(excluded) > 0 {
		out.WriteString("outbound:\n  excludeCIDRs:\n")
	}
	for _, p := range excluded {
		fmt.Fprintf(&out, "    - %s\n", p)
	}
	return out.String()
}
