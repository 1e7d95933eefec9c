// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// Two conntrack zones keep a query that the proxy forwards apart from the
// application's own, which may have the same addresses and ports.
const (
	proxyZone       rules.Zone = 1 // between the proxy and the resolver
	applicationZone rules.Zone = 2 // between the application and the proxy
)

// rawOutput puts DNS over UDP into its zones; the first zone that is set wins. The
// proxy's queries have theirs in the original direction alone: what answers them is
// looked for in zone 0, as answers to other users are, so that no rule need tell the
// answers to the proxy from those to a container behind nat.
func (s *sidecar) rawOutput(w *writer) {
	out := w.base("raw_output", rules.FilterType, rules.Output, rules.PriorityRaw)
	for _, owner := range s.queriers(w) {
		out.add("the proxy's queries have a conntrack zone of their own", rules.UDPDport.Is(dnsPort), owner, rules.CTOriginalZone.Set(proxyZone))
	}
	for _, owner := range s.answerers(w) {
		out.add("the proxy's answers to this pod belong to the application's queries",
			rules.OIfName.Is("lo"), rules.UDPSport.Is(s.dns.port), rules.Daddr.NotIn(loopbackNetworks...), owner, rules.CTZone.Set(applicationZone))
	}
	s.queriesLeftAlone(out)
	s.capturedQueries(out)
}

// loopbackNetworks are that no host outside the namespace sends from.
var loopbackNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// queriesLeftAlone zones what natOutput does not capture, or what a resolver of
// another's rules may answer from another port (Docker's 127.0.0.11): one direction,
// as the proxy's.
func (s *sidecar) queriesLeftAlone(out *chainWriter) {
	query := append(s.resolvers(out.writer, rules.Daddr), rules.UDPDport.Is(dnsPort))
	alone := func(reason string, nodes ...rules.Node) {
		out.add(reason, append(append(nodes, query...), rules.CTOriginalZone.Set(applicationZone))...)
	}
	alone("a query over loopback may be answered from another port", rules.Saddr.In(loopbackNetworks...))
	if !s.linkLocal {
		alone("a query to a link-local address is left alone", rules.Daddr.In(linkLocal...))
	}
	if s.dns.notDestinations() && len(s.cidrs.exclude) > 0 {
		alone("a query to an excluded destination is left alone", rules.Daddr.InSet(out.prefixes("outbound_exclude", s.cidrs.exclude)))
	}
	for _, excluded := range out.interfaceSet("exclude_interfaces", rules.OIfName, s.exclude) {
		alone("a query by an excluded interface is left alone", excluded...)
	}
	if s.dns.first() {
		return
	}
	for _, x := range queriesOf(s.excluded) {
		alone("an excluded query is left alone", x.owner()...)
	}
	if len(s.excludeUIDs) > 0 {
		alone("an excluded user's query is left alone", rules.SkUID.InSet(set(out.writer, "outbound_exclude_uids", rules.SkUID, s.excludeUIDs)))
	}
	if len(s.excludeGIDs) > 0 {
		alone("an excluded group's query is left alone", rules.SkGID.InSet(set(out.writer, "outbound_exclude_gids", rules.SkGID, s.excludeGIDs)))
	}
}

// capturedQueries have their zone in both directions. In zone 0, a packet from port 53
// that was not asked for would be a connection, and the query the answer to it, which
// nat leaves alone: it would pass the proxy.
func (s *sidecar) capturedQueries(out *chainWriter) {
	const why = "the application's queries have a conntrack zone of their own"
	query := append(s.resolvers(out.writer, rules.Daddr), rules.UDPDport.Is(dnsPort))
	switch {
	case s.dns.elsewhere(): // the answer is looked for in zone 0
		out.add(why, append(query, rules.CTOriginalZone.Set(applicationZone))...)
	case s.dns.first():
		out.add(why, append(query, rules.CTZone.Set(applicationZone))...)
	case s.excludesPort(dnsPort):
		out.add(why, append(query, rules.CTOriginalZone.Set(applicationZone))...)
	case s.everyGID:
		out.add(why, append(query, rules.CTZone.Set(applicationZone))...)
	default:
		if len(s.includeGIDs) > 0 {
			included := rules.SkGID.InSet(set(out.writer, "outbound_include_gids", rules.SkGID, s.includeGIDs))
			out.add(why, append(append([]rules.Node{included}, query...), rules.CTZone.Set(applicationZone))...)
		}
		out.add("a query of a group that is not included is left alone", append(query, rules.CTOriginalZone.Set(applicationZone))...)
	}
}

// resolvers match the known resolvers by an address, or nothing where all of
// port 53 is captured.
func (s *sidecar) resolvers(w *writer, address rules.Key[netip.Prefix]) []rules.Node {
	if s.dns.capture != dnsServers {
		return nil
	}
	return []rules.Node{address.InSet(s.resolverSets(w))}
}

// resolverSets declares a set of the resolvers for each family, once.
func (s *sidecar) resolverSets(w *writer) rules.SetOf[netip.Prefix] {
	return w.wholeSets("dns_servers", s.dns.servers)
}

// resolversOf are resolvers in one family, and whether there are any.
func (s *sidecar) resolversOf(w *writer, f rules.Family) ([]rules.Node, bool) {
	if s.dns.capture != dnsServers {
		return nil, true
	}
	name := f.SetName(s.resolverSets(w).Name)
	return []rules.Node{daddrKeys[f].InSet(rules.SetOf[netip.Prefix]{Name: name})}, w.table.Set(name) != nil
}

// answerers match the proxy's packets where it answers queries itself.
func (s *sidecar) answerers(w *writer) []rules.Match {
	if s.dns.elsewhere() {
		return nil
	}
	return s.owners(w)
}

// queriers match the proxy's packets where its queries are left alone.
func (s *sidecar) queriers(w *writer) []rules.Match {
	if s.dns.proxyQueries {
		return nil
	}
	return s.owners(w)
}

// owners match the proxy's packets, one match for each way to tell it.
func (s *sidecar) owners(w *writer) []rules.Match {
	var owners []rules.Match
	if s.markMask != 0 {
		owners = append(owners, rules.MetaMark.Masked(s.mark, s.markMask))
	}
	if len(s.uids) > 0 {
		owners = append(owners, rules.SkUID.InSet(set(w, ProxyUIDs, rules.SkUID, s.uids)))
	}
	if len(s.gids) > 0 {
		owners = append(owners, rules.SkGID.InSet(set(w, "proxy_gids", rules.SkGID, s.gids)))
	}
	return owners
}
