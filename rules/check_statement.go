// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
)

func (v Verdict) check(c *checker) {
	if (v.Kind == JumpKind || v.Kind == GotoKind) != (v.Chain != "") {
		c.problem("jump and goto need a chain, other verdicts none")
	}
	if v.Kind == noVerdict || v.Kind > GotoKind {
		c.problem("a verdict says nothing")
	}
	c.target(v)
}

func (v VMap) check(c *checker) {
	c.keys(v.Key)
	if v.Map != "" {
		if len(v.Elements) > 0 {
			c.problem("looks up %s and holds elements too", v.Map)
		}
		c.lookup(v.Key, v.Map, true)
		return
	}
	if len(v.Elements) == 0 {
		c.problem("a verdict map is empty")
	}
	c.inline(v.Key, v.Elements, true)
}

func (Counter) check(*checker) {}

func (r Redirect) check(c *checker) {
	if !c.reached(NATType, Prerouting, Output) {
		c.problem("redirect works in nat chains of prerouting and output, not in %s", c.base)
	}
	if r.Ports == nil {
		return
	}
	if len(r.Ports.Lo) != 2 || len(r.Ports.Hi) != 2 || r.Ports.Lo > r.Ports.Hi {
		c.problem("redirect wants a port or a range of them")
	}
	if !c.implied.transport {
		c.problem("redirect to a port wants a match on TCP or UDP before it")
	}
}

func (n SNAT) check(c *checker) {
	if !c.reached(NATType, Input, Postrouting) {
		c.problem("snat works in nat chains of input and postrouting, not in %s", c.base)
	}
	if !n.To.IsValid() || n.To.Is4In6() || n.To.Zone() != "" {
		c.problem("snat wants an address")
		return
	}
	if f := AddressFamily(n.To); c.implied.family != f {
		c.problem("snat to %s wants a match on %s before it", n.To, f)
	}
}

func (n DNAT) check(c *checker) {
	if !c.reached(NATType, Prerouting, Output) {
		c.problem("dnat works in nat chains of prerouting and output, not in %s", c.base)
	}
	if !n.To.IsValid() || n.To.Is4In6() || n.To.Zone() != "" {
		c.problem("dnat wants an address")
		return
	}
	if f := AddressFamily(n.To); c.implied.family != f {
		c.problem("dnat to %s wants a match on %s before it", n.To, f)
	}
	if n.Port != 0 && !c.implied.transport {
		c.problem("dnat to a port wants a match on TCP or UDP before it")
	}
}

func (t TProxy) check(c *checker) {
	if !c.reached(FilterType, Prerouting) {
		c.problem("tproxy works in filter chains of prerouting, not in %s", c.base)
	}
	if !c.implied.transport {
		c.problem("tproxy wants a match on TCP or UDP before it")
	}
	if c.handedOver {
		c.problem("hands the packet over twice")
	}
	c.handedOver = true
	if t.Port == 0 && t.Addr == "" {
		c.problem("tproxy wants a port or an address")
	}
	lengths := map[Family]int{0: 0, IPv4: 4, IPv6: 16}
	if length, known := lengths[t.Family]; !known || t.Addr != "" && len(t.Addr) != length {
		c.problem("the address of a tproxy is not of its family")
	}
	if c.implied.familyList {
		c.problem("nft does not take tproxy after a list of families (want a rule for each)")
	}
	if t.Family != 0 && c.implied.family != 0 && t.Family != c.implied.family {
		c.problem("a tproxy for %s never meets a packet of %s", t.Family, c.implied.family)
	}
}

func (r Reject) check(c *checker) {
	if !c.reached(FilterType, Prerouting, Input, Forward, Output) {
		c.problem("reject works in filter chains of prerouting, input, forward and output, not in %s", c.base)
	}
	if !r.Unreachable && (c.implied.proto != TCP || c.implied.protoList) {
		c.problem("a TCP reset wants a match on TCP before it")
	}
}

// rewrite refuses what the kernel would write into another packet's field.
func (a Assign) rewrite(c *checker) {
	c.selector(a.To)
	switch {
	case a.To.Family() != 0 && (c.implied.family != a.To.Family() || c.implied.familyList):
		c.problem("%s is set, and wants a match on its family before", a.To)
	case a.To.Proto() != 0 && (c.implied.proto != a.To.Proto() || c.implied.protoList):
		c.problem("%s is set, and wants a match on its protocol before", a.To)
	case a.From != 0:
		c.problem("%s is set to a value alone", a.To)
	}
}

func (a Assign) check(c *checker) {
	typ := a.To.Type()
	switch a.To {
	case Selector(MetaMark), Selector(CTMark):
	case Selector(IPSaddr), Selector(IPDaddr), Selector(IP6Saddr), Selector(IP6Daddr),
		Selector(TCPSport), Selector(TCPDport), Selector(UDPSport), Selector(UDPDport):
		a.rewrite(c)
	case Selector(CTZone), Selector(CTOriginalZone):
		if !c.early() {
			c.problem("a zone is set before conntrack, in prerouting or output at a priority under %d", conntrackPrio)
		}
	default:
		c.problem("%s cannot be set", a.To)
		return
	}
	if len(a.Xor) != typ.Len() {
		c.problem("the value for %s is not of its length", a.To)
	}
	if a.From == 0 {
		if a.Mask != "" {
			c.problem("%s is set to a value under a mask, which copies nothing", a.To)
		}
		return
	}
	if a.From.Type() != typ || len(a.Mask) != typ.Len() {
		c.problem("%s cannot be copied to %s", a.From, a.To)
		return
	}
	c.keys([]Selector{a.From})
}

func (NoTrack) check(c *checker) {
	if !c.early() {
		c.problem("notrack works before conntrack, in prerouting or output at a priority under %d", conntrackPrio)
	}
}

func (Log) check(*checker) {}

func (d Dynset) check(c *checker) {
	c.keys(d.Key)
	if len(d.Key) == 0 {
		return
	}
	c.lookup(d.Key, d.Set, false)
	c.timeout(d.Timeout)
	s := c.table_.Set(d.Set)
	switch {
	case s == nil:
	case !s.Dynamic:
		c.problem("rules add to a dynamic set, which %s is not", d.Set)
	case d.Update && !s.Expires:
		c.problem("updates %s, which has no timeout flag", d.Set)
	case d.Timeout != 0 && !s.Expires:
		c.problem("adds an element with a timeout to %s, which has no timeout flag", d.Set)
	}
}

func (o Opaque) check(c *checker) { c.problem("holds %s, which the model does not know", o.Name) }

func (m Match) needs() nodeNeeds { return reading(m.Key) }
func (v VMap) needs() nodeNeeds  { return reading(v.Key) }

func (v Verdict) needs() nodeNeeds {
	return nodeNeeds{terminal: true}
}

func (Counter) needs() nodeNeeds  { return nodeNeeds{} }
func (Redirect) needs() nodeNeeds { return nodeNeeds{terminal: true, tracked: bothFamilies} }

func (n SNAT) needs() nodeNeeds {
	return nodeNeeds{terminal: true, tracked: []Family{AddressFamily(n.To)}} // nft_nat_init
}

func (n DNAT) needs() nodeNeeds {
	return nodeNeeds{terminal: true, tracked: []Family{AddressFamily(n.To)}}
}

func (Log) needs() nodeNeeds      { return nodeNeeds{} }
func (d Dynset) needs() nodeNeeds { return reading(d.Key) }
func (TProxy) needs() nodeNeeds   { return nodeNeeds{} }
func (Reject) needs() nodeNeeds   { return nodeNeeds{terminal: true} }
func (NoTrack) needs() nodeNeeds  { return nodeNeeds{} }
func (Opaque) needs() nodeNeeds   { return nodeNeeds{tracked: bothFamilies} } // it may be of nat

func (a Assign) needs() nodeNeeds {
	var needs nodeNeeds
	if a.From != 0 {
		needs = reading([]Selector{a.From})
	}
	if a.To.tracking() {
		needs.tracked = bothFamilies
	}
	return needs
}

func reading(key []Selector) nodeNeeds {
	needs := nodeNeeds{selectors: key}
	if slices.ContainsFunc(key, Selector.tracking) {
		needs.tracked = bothFamilies
	}
	return needs
}

// tracking reports whether the selector is of the packet's connection.
func (s Selector) tracking() bool {
	return s == Selector(CTMark) || s == Selector(CTStates) || s == Selector(CTZone) || s == Selector(CTOriginalZone)
}
