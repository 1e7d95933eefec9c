// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"strings"
)

// routing refuses what the kernel would take for something else.
func (c *checker) routing(s State) {
	for _, r := range s.PolicyRules {
		c.where = fmt.Sprintf("policy rule %d", r.Priority)
		c.policyRule(r)
		if r.Mark&^r.Mask != 0 {
			c.problem("the mark 0x%x wants a mask that covers it, not 0x%x", r.Mark, r.Mask)
		}
	}
	for _, r := range s.Routes {
		c.where = fmt.Sprintf("route %s", r.Dst)
		c.lookupTable(r.Family, r.Table)
		if !plainPrefix(r.Dst) || AddressFamily(r.Dst.Addr()) != r.Family {
			c.problem("the destination is not a prefix of family %s", r.Family)
		}
		if len(r.Device) > MaxIfName {
			c.problem("%q is not an interface (at most %d bytes)", r.Device, MaxIfName)
		}
	}
	for _, a := range s.Addresses {
		c.where = fmt.Sprintf("address %s", a)
		if !plainPrefix(a) {
			c.problem("is not an address with a prefix length")
		}
	}
}

// policyRule refuses what fib_nl_newrule does.
func (c *checker) policyRule(r PolicyRule) {
	if r.In != "" {
		c.span(nameSpan(r.In), ifNameType)
		if strings.HasSuffix(r.In, "*") {
			c.problem("%q is not an interface: policy rules know no wildcards", r.In)
		}
	}
	switch {
	case r.Goto == 0:
		c.lookupTable(r.Family, r.Table)
	case r.Table != 0:
		c.problem("looks up table %d, and goes to %d", r.Table, r.Goto)
	case r.Goto <= r.Priority:
		c.problem("goes back to %d", r.Goto)
	}
	if r.Goto != 0 && r.Family != IPv4 && r.Family != IPv6 {
		c.problem("%s is neither ipv4 nor ipv6", r.Family)
	}
}

func (c *checker) lookupTable(f Family, table uint32) {
	if f != IPv4 && f != IPv6 {
		c.problem("%s is neither ipv4 nor ipv6", f)
	}
	if table == 0 {
		c.problem("wants a routing table other than 0")
	}
}

func plainPrefix(p netip.Prefix) bool { return p.IsValid() && !p.Addr().Is4In6() }
