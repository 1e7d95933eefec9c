// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/modes"
)

// portWord is a port as a configuration has it, where 0 by itself is taken for a
// mistake.
func portWord(word string) modes.PortWord {
	if word == "0" {
		return "0-0"
	}
	return modes.PortWord(word)
}

func portWords(list string) []modes.PortWord {
	var out []modes.PortWord
	for _, w := range options.Split(list) {
		out = append(out, portWord(w))
	}
	return out
}

// interfaceNames leaves out names with an asterisk, which no interface has:
// iptables' wildcard is a plus, and an asterisk stands for itself.
func interfaceNames(list string) []string {
	return slices.DeleteFunc(options.Split(list), hasAsterisk)
}

func hasAsterisk(name string) bool { return strings.Contains(name, "*") }

// includedPrefixes leaves out IPv4-mapped prefixes: to the reference they are IPv6, and
// no packet has such an address. One of loopback addresses is a loopback prefix to it
// nevertheless, which ::1 is too, and captures as little.
func includedPrefixes(list string) []string {
	out := []string{}
	for _, w := range options.Split(list) {
		switch p, err := netip.ParsePrefix(w); {
		case err != nil || !p.Addr().Is4In6():
			out = append(out, w)
		case p.Addr().IsLoopback() && !slices.Contains(out, loopbackIPv6):
			out = append(out, loopbackIPv6)
		}
	}
	return out
}

const loopbackIPv6 = "::1/128"

// excludedPrefixes leaves out IPv4-mapped prefixes, which exclude nothing.
func excludedPrefixes(list string) []string { return slices.DeleteFunc(options.Split(list), isMapped) }

func isMapped(word string) bool {
	p, err := netip.ParsePrefix(word)
	return err == nil && p.Addr().Is4In6()
}
