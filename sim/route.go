// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// PolicyRule is a rule of the routing policy database, as far as packets are told
// apart by it here.
type PolicyRule struct {
	Family      rules.Family
	Priority    uint32
	Mark        rules.Mark
	Mask        rules.Mark
	From, To    netip.Prefix // not valid: any
	In          string       // "": any; lo is what is sent here
	Not         bool         // it takes what the above does not say
	Table       uint32
	Goto        uint32 // the priority of the rule to go on at; 0: Table is looked up
	Unsupported string // what it says that the model does not know
}

// FromKernel reports whether the rule is one of the three that every namespace has.
func (l PolicyRule) FromKernel() bool {
	var table uint32
	switch l.Priority {
	case 0:
		table = rules.LocalTable
	case 32766:
		table = rules.MainTable
	case 32767:
		table = defaultTable
	default:
		return false
	}
	return l == PolicyRule{Family: l.Family, Priority: l.Priority, Table: table}
}

// Route is an entry of a routing table.
type Route struct {
	Table       uint32
	Dst         netip.Prefix
	Type        rules.AddrType // Unicast, Local, ...
	Out         string
	Src         netip.Addr // preferred; not valid: of the link
	Via         netip.Addr // the gateway, if it has one
	Metric      uint32
	Unsupported string
}

const defaultTable = 253 // RT_TABLE_DEFAULT, for IPv4 alone

// owns reports whether the address stands on an interface, as __ip_dev_find and
// ipv6_chk_addr of the kernel tell it.
func (h *Host) owns(a netip.Addr) bool {
	return h.addrType(a) == rules.Local
}

// addrType is the type of an address as fib tells it: by table local alone.
func (h *Host) addrType(a netip.Addr) rules.AddrType {
	switch {
	case a.IsMulticast():
		return rules.Multicast
	case a.Is4() && (a.As4()[0] == 0 || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})):
		return rules.Broadcast
	}
	if p, found := h.longest(rules.LocalTable, a, ""); found {
		return p.Type
	}
	return rules.Unicast
}

// flow is what a route is looked up by.
type flow struct {
	src, dst netip.Addr
	mark     rules.Mark
	in       string // "" is what is sent here
	out      string // "": by any interface
}

func (h *Host) lookup(f flow) (Route, bool) {
	family := rules.AddressFamily(f.dst)
	from := uint32(0)
	for i := range h.PolicyRules {
		l := &h.PolicyRules[i]
		if l.Family != family || l.Priority < from || !l.takes(f) {
			continue
		}
		if l.Unsupported != "" {
			return Route{Unsupported: l.Unsupported}, true
		}
		if l.Goto != 0 {
			from = l.Goto
			continue
		}
		if p, found := h.longest(l.Table, f.dst, f.out); found && p.Type != throw {
			if p.Type == rules.Local && f.in == "" {
				p.Out = loopback // whatever interface has the address
			}
			return p, true
		}
	}
	return Route{}, false
}

// takes compares marks under the mask on both sides (fib_rule_match): a rule's mark
// may have bits outside of it. Of IPv4 no source is 0.0.0.0, which prefixes may hold.
func (l *PolicyRule) takes(f flow) bool {
	src := f.src
	if !src.IsValid() && f.dst.Is4() {
		src = netip.IPv4Unspecified()
	}
	said := (f.mark^l.Mark)&l.Mask == 0 && (!l.From.IsValid() || l.From.Contains(src)) && (!l.To.IsValid() || l.To.Contains(f.dst)) &&
		(l.In == "" || l.In == cmp.Or(f.in, loopback))
	return said != l.Not
}

// longest is the route with the longest prefix, of those the least metric; where an
// interface is named, of those that lead by it, or nowhere.
func (h *Host) longest(table uint32, dst netip.Addr, out string) (Route, bool) {
	best := -1
	for i := range h.Routes {
		p := &h.Routes[i]
		if p.Table != table || !p.Dst.Contains(dst) || out != "" && p.Out != out && p.Out != "" {
			continue
		}
		if best < 0 || p.Dst.Bits() > h.Routes[best].Dst.Bits() ||
			p.Dst.Bits() == h.Routes[best].Dst.Bits() && p.Metric < h.Routes[best].Metric {
			best = i
		}
	}
	if best < 0 {
		return Route{}, false
	}
	return h.Routes[best], true
}

const (
	anycast     rules.AddrType = 4
	blackhole   rules.AddrType = 6
	unreachable rules.AddrType = 7
	prohibit    rules.AddrType = 8
	throw       rules.AddrType = 9 // to the next policy rule
)
