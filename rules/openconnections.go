package rules

import (
	"net/netip"
	"slices"
	"time"
)

// A packet from the middle of a connection that conntrack meets first opens the
// connection anew to nat, which would redirect it and so reset it. Connections that
// were open before a first apply are therefore in a live set for each family, whose
// packets nat leaves alone. A bare SYN is of no open connection, whatever its
// addresses: a connection that takes an old one's ports is captured.

// OpenTimeout is how long an open connection is remembered at most. Conntrack
// forgets an idle connection after five days (nf_conntrack_tcp_timeout_established)
// and then takes its next packet for the first one.
const OpenTimeout = 7 * 24 * time.Hour

var openKeys = map[Family][]Selector{
	IPv4: {Selector(IPSaddr), Selector(TCPSport), Selector(IPDaddr), Selector(TCPDport)},
	IPv6: {Selector(IP6Saddr), Selector(TCPSport), Selector(IP6Daddr), Selector(TCPDport)},
}

// midStream matches TCP packets that do not ask for a new connection.
func midStream() Match { return TCPFlags.Masked(SYN, FIN|SYN|RST|ACK).negated() }

// OpenSet declares the set of a family's open connections. It has no size: the
// kernel makes room for as many elements at once.
func OpenSet(f Family) *Set {
	return &Set{Name: FamilySet("open", f), Key: typesOf(openKeys[f]), Live: true, Expires: true, Sweep: time.Hour}
}

// OpenRule keeps nat from a family's open connections.
func OpenRule(f Family) Rule {
	return Rule{Reason: "a connection that was open before the first apply stays as it is",
		Nodes: []Node{midStream(), LookupIn(OpenSet(f).Name, openKeys[f]...), Counter{}, Return()}}
}

// OpenGuard keeps nat from every connection that is open, as long as it is not
// known which ones are. It must not stay: once conntrack forgets a connection that is
// captured, the guard lets its packets out.
func OpenGuard() Rule {
	return Rule{Reason: "until the open connections are listed, none of them is touched",
		Nodes: []Node{midStream(), Return()}}
}

// OpenElement is an element of [OpenSet] for packets with those ends.
func OpenElement(src, dst netip.AddrPort, timeout time.Duration) Element {
	address := func(a netip.Addr) Range { return RangeOf(netip.PrefixFrom(a, a.BitLen())) }
	return Element{Timeout: timeout, Key: []Range{address(src.Addr()), RangeOf(Port(src.Port())), address(dst.Addr()), RangeOf(Port(dst.Port()))}}
}

// KeepsOpen are the families whose open connections the table keeps nat from.
func (t *Table) KeepsOpen() (out []Family) {
	if t == nil {
		return nil
	}
	for _, f := range bothFamilies {
		if s := t.Set(OpenSet(f).Name); s != nil && s.Declaration() == OpenSet(f).Declaration() {
			out = append(out, f)
		}
	}
	return out
}

// Guarded is the table with an [OpenGuard] before the first rule for open
// connections of every chain that has one.
func (t *Table) Guarded() *Table {
	g := *t
	g.Chains = mapped(t.Chains, func(c *Chain) *Chain {
		at := c.firstOpenRule()
		if at < 0 {
			return c
		}
		guarded := *c
		guarded.Rules = append(append(append([]Rule{}, c.Rules[:at]...), OpenGuard()), c.Rules[at:]...)
		return &guarded
	})
	return &g
}

func (c *Chain) firstOpenRule() int {
	for i, r := range c.Rules {
		for _, f := range bothFamilies {
			if r.says(OpenRule(f)) {
				return i
			}
		}
	}
	return -1
}

// OpenGuarded reports whether a guard is left in the table.
func (t *Table) OpenGuarded() bool {
	return t != nil && slices.ContainsFunc(t.Chains, func(c *Chain) bool { return slices.ContainsFunc(c.Rules, Rule.IsOpenGuard) })
}

// IsOpenGuard reports whether the rule is an [OpenGuard].
func (r Rule) IsOpenGuard() bool { return r.says(OpenGuard()) }

func (r Rule) says(other Rule) bool {
	return r.Reason == other.Reason && r.normal().key() == other.normal().key()
}
