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

const resolverAnswers = "a resolver's answers belong to the proxy's queries"

// rawPrerouting and rawOutput put DNS over UDP into its zones.
func (s *sidecar) rawPrerouting(w *writer) {
	in := w.base("raw_prerouting", rules.FilterType, rules.Prerouting, rules.PriorityRaw)
	in.add(resolverAnswers, s.answers(w)...)
}

// rawOutput has the proxy's own rules first: the first zone that is set wins.
func (s *sidecar) rawOutput(w *writer) {
	out := w.base("raw_output", rules.FilterType, rules.Output, rules.PriorityRaw)
	owned := func(reason string, port rules.Match, zone rules.Zone) {
		for _, owner := range s.owners(w) {
			out.add(reason, port, owner, rules.SetZone(zone))
		}
	}
	owned("the proxy's queries have a conntrack zone of their own", rules.UDPDport.Is(dnsPort), proxyZone)
	owned("the proxy's answers belong to the application's queries", rules.UDPSport.Is(s.dns.port), applicationZone)
	out.add("the application's queries have a conntrack zone of their own",
		append(s.resolvers(w, rules.Daddr), rules.UDPDport.Is(dnsPort), rules.SetZone(applicationZone))...)
	// A resolver in the pod answers over lo, where the zone that a packet leaves
	// with stays: its answers would pass for flows of their own.
	out.add(resolverAnswers, append([]rules.Node{rules.OIfName.Is("lo")}, s.answers(w)...)...)
}

func (s *sidecar) answers(w *writer) []rules.Node {
	return append(s.resolvers(w, rules.Saddr), rules.UDPSport.Is(dnsPort), rules.SetZone(proxyZone))
}

// resolvers match the known resolvers by an address, or nothing where all of
// port 53 is captured.
func (s *sidecar) resolvers(w *writer, address rules.Key[netip.Prefix]) []rules.Node {
	if s.dns.capture != dnsServers {
		return nil
	}
	return []rules.Node{address.InSet(w.prefixes("dns_servers", s.dns.servers))}
}

// owners match the proxy's packets, one match for each way to tell it.
func (s *sidecar) owners(w *writer) []rules.Match {
	var owners []rules.Match
	if s.markMask != 0 {
		owners = append(owners, rules.MetaMark.Masked(s.mark, s.markMask))
	}
	if len(s.uids) > 0 {
		owners = append(owners, rules.SkUID.InSet(set(w, "proxy_uids", rules.SkUID, s.uids)))
	}
	if len(s.gids) > 0 {
		owners = append(owners, rules.SkGID.InSet(set(w, "proxy_gids", rules.SkGID, s.gids)))
	}
	return owners
}
