// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trace

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim/packet"
)

// Match are the matches of a protocol (0: any), a source and a destination (the
// zero pattern: any). The error says each end that has two families, or that both
// ends have different ones.
func Match(proto rules.Proto, from, to packet.Pattern) ([]rules.Node, error) {
	var errs []error
	for _, end := range []packet.Pattern{from, to} {
		if end.TwoFamilies() {
			errs = append(errs, fmt.Errorf("%q is of two families", end))
		}
	}
	if a, b := from.To, to.To; a.IsValid() && b.IsValid() && a.Addr().Is4() != b.Addr().Is4() {
		errs = append(errs, fmt.Errorf("source and destination are of two families: %s and %s", a, b))
	}
	var out []rules.Node
	switch {
	case proto != 0:
		out = append(out, rules.L4Proto.Is(proto))
	case from.Ports != to.Ports || from.Ports != (rules.Range{}):
		out = append(out, rules.L4Proto.In(rules.TCP, rules.UDP)) // others have no ports
	}
	out = append(out, matchEnd(from, rules.Saddr, rules.ThSport)...)
	return append(out, matchEnd(to, rules.Daddr, rules.ThDport)...), errors.Join(errs...)
}

func matchEnd(p packet.Pattern, addr rules.Key[netip.Prefix], port rules.Key[rules.Port]) (out []rules.Node) {
	if p.To.IsValid() {
		out = append(out, addr.Is(p.To))
	}
	if p.Ports != (rules.Range{}) {
		out = append(out, port.Within(p.Ports))
	}
	return out
}
