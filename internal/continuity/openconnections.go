// SPDX-License-Identifier: Apache-2.0

package continuity

import (
	"net/netip"
	"slices"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// A packet from the middle of a connection that conntrack meets first opens the
// connection anew to nat, which would redirect it and so reset it. Connections that
// were open before a first apply are therefore in a live set for each family, whose
// packets nat leaves alone. A bare SYN belongs to no open connection, whatever its
// addresses: a connection that takes an old one's ports is captured.

// OpenTimeout is how long an open connection is remembered at most. Conntrack
// forgets an idle connection after five days (nf_conntrack_tcp_timeout_established)
// and then takes its next packet for the first one.
const OpenTimeout = 7 * 24 * time.Hour

// openKey reads the two ends of a connection, as its packets name them.
func openKey(f rules.Family) []rules.Selector {
	src, dst := rules.IPSaddr, rules.IPDaddr
	if f == rules.IPv6 {
		src, dst = rules.IP6Saddr, rules.IP6Daddr
	}
	return []rules.Selector{src.Selector(), rules.TCPSport.Selector(), dst.Selector(), rules.TCPDport.Selector()}
}

// inOpenSet matches packets of the family's open connections.
func inOpenSet(f rules.Family) rules.Match {
	return rules.Match{Set: f.SetName("open"), Key: openKey(f)}
}

// midStream matches TCP packets that do not ask for a new connection.
func midStream() rules.Match {
	m := rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK)
	m.Negated = true
	return m
}

// OpenSet declares the set of a family's open connections. It has no size: the
// kernel makes room for as many elements at once.
func OpenSet(f rules.Family) *rules.Set {
	lookup := inOpenSet(f)
	return &rules.Set{Name: lookup.Set, Key: lookup.Types(), Live: true, Expires: true, Sweep: time.Hour}
}

// OpenRule keeps nat from a family's open connections.
func OpenRule(f rules.Family) rules.Rule {
	return rules.Rule{Reason: "a connection that was open before the first apply stays as it is",
		Nodes: []rules.Node{midStream(), inOpenSet(f), rules.Counter{}, rules.Return()}}
}

// OpenGuard keeps nat from every connection that is open, as long as it is not
// known which ones are. It must not stay: once conntrack forgets a connection that is
// captured, the guard lets its packets out.
func OpenGuard() rules.Rule {
	return rules.Rule{Reason: "until the open connections are listed, none of them is touched",
		Nodes: []rules.Node{midStream(), rules.Return()}}
}

// OpenElement is an element of [OpenSet] for packets from src to dst.
func OpenElement(src, dst netip.AddrPort, timeout time.Duration) rules.Element {
	address := func(a netip.Addr) rules.Range { return rules.RangeOf(netip.PrefixFrom(a, a.BitLen())) }
	port := func(a netip.AddrPort) rules.Range { return rules.RangeOf(rules.Port(a.Port())) }
	return rules.Element{Timeout: timeout, Key: []rules.Range{address(src.Addr()), port(src), address(dst.Addr()), port(dst)}}
}

// KeepsOpen are the families whose open connections the table keeps nat from.
func KeepsOpen(t *rules.Table) (out []rules.Family) {
	if t == nil {
		return nil
	}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if s := t.Set(OpenSet(f).Name); s != nil && s.Declaration() == OpenSet(f).Declaration() {
			out = append(out, f)
		}
	}
	return out
}

// Guarded is the table with an [OpenGuard] before the first rule for open
// connections of every chain that has one.
func Guarded(t *rules.Table) *rules.Table {
	guarded := *t
	guarded.Chains = slices.Clone(t.Chains)
	for i, c := range t.Chains {
		if at := slices.IndexFunc(c.Rules, isOpenRule); at >= 0 {
			withGuard := *c
			withGuard.Rules = slices.Insert(slices.Clone(c.Rules), at, OpenGuard())
			guarded.Chains[i] = &withGuard
		}
	}
	return &guarded
}

func isOpenRule(r rules.Rule) bool {
	return r.Equal(OpenRule(rules.IPv4)) || r.Equal(OpenRule(rules.IPv6))
}

// HasGuard reports whether a guard is left in the table.
func HasGuard(t *rules.Table) bool {
	return t != nil && slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return slices.ContainsFunc(c.Rules, IsGuard) })
}

// IsGuard reports whether the rule is an [OpenGuard].
func IsGuard(r rules.Rule) bool { return r.Equal(OpenGuard()) }
