package modes

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// Two conntrack zones keep a query that the proxy forwards apart from the
// application's own, which may have the same addresses and ports.
const (
	proxyZone       rules.Zone = 1 // between the proxy and the resolver
	applicationZone rules.Zone = 2 // between the application and the proxy
)

// zones puts DNS over UDP into its zones. The first zone that is set wins, so
// the proxy's own come first.
func (s *sidecar) zones(w *writer) {
	in := w.base("raw_prerouting", rules.FilterType, rules.Prerouting, rules.PriorityRaw)
	out := w.base("raw_output", rules.FilterType, rules.Output, rules.PriorityRaw)
	owned := func(reason string, port rules.Match, zone rules.Zone) {
		for _, owner := range s.owners(w) {
			out.add(reason, port, owner, rules.SetZone(zone))
		}
	}
	owned("the proxy's queries have a conntrack zone of their own", rules.UDPDport.Is(dnsPort), proxyZone)
	owned("the proxy's answers belong to the application's queries", rules.UDPSport.Is(s.dns.port), applicationZone)
	var to, from []rules.Node
	if s.dns.capture == dnsServers {
		servers := w.prefixes("dns_servers", s.dns.servers)
		to, from = []rules.Node{rules.Daddr.InSet(servers)}, []rules.Node{rules.Saddr.InSet(servers)}
	}
	query := []rules.Node{rules.UDPDport.Is(dnsPort), rules.SetZone(applicationZone)}
	answer := []rules.Node{rules.UDPSport.Is(dnsPort), rules.SetZone(proxyZone)}
	out.add("the application's queries have a conntrack zone of their own", slices.Concat(to, query)...)
	const why = "a resolver's answers belong to the proxy's queries"
	in.add(why, slices.Concat(from, answer)...)
	// A resolver in the pod answers over lo, where the zone that a packet leaves
	// with stays: its answers would pass for flows of their own.
	out.add(why, slices.Concat([]rules.Node{rules.OIfName.Is("lo")}, from, answer)...)
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
