// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// dnsScope is which queries are captured.
type dnsScope struct {
	udp, tcp     bool                            // over which
	zones        bool                            // UDP's have conntrack zones
	exclusions   string                          // what outbound leaves alone of them too
	proxyQueries bool                            // the proxy's are captured too
	to           map[rules.Family]netip.AddrPort // where they go, none: to the proxy's listener
}

const (
	exemptNone   = "none"
	exemptOwners = "owners"
	exemptAll    = "all"
)

func (r *reader) dnsScope(d DNS) dnsScope {
	s := dnsScope{
		zones:        r.choice("dns.zones", d.Zones) == "enabled",
		exclusions:   r.choice("dns.exclusions", d.Exclusions),
		proxyQueries: r.mode == ModeSidecar && r.choice("dns.proxyQueries", d.ProxyQueries) == callsCaptured,
	}
	s.to = r.dnsTargets(d.To)
	const key = "dns.protocols"
	for _, w := range r.list(key, d.Protocols) {
		switch w {
		case "udp":
			s.udp = true
		case "tcp":
			s.tcp = true
		default:
			r.problem(key, w, "is not a protocol of queries (want udp, tcp or both)")
		}
	}
	if empty(d.Protocols) {
		r.problem(key, "", "captures nothing (want udp, tcp, or %s)", Ref{"dns.capture", dnsNone})
	}
	if s.proxyQueries && s.exclusions != exemptNone {
		r.problem("dns.proxyQueries", "", "captured wants %s: the proxy's queries are among what is left alone", Ref{"dns.exclusions", exemptNone})
	}
	return s
}

// noteUnusedDNS tells of keys that say which queries are captured, where none is.
func (r *reader) noteUnusedDNS(written Config, captures bool) {
	for _, k := range allKeys() {
		if !captures && slices.Contains([]string{"dns.zones", "dns.proxyQueries", "dns.to"}, k.Path) && k.isSet(&written) {
			r.note(k.Path, "is used only where %s captures queries", Ref{Key: "dns.capture"})
		}
	}
}

// captures reports whether queries over TCP, or else UDP, are captured.
func (d dns) captures(tcp bool) bool {
	return d.capture != dnsNone && (tcp && d.tcp || !tcp && d.udp)
}

// zoned reports whether queries have conntrack zones.
func (d dns) zoned() bool { return d.captures(false) && d.zones }

// first reports whether queries are captured before anything of outbound is left alone.
func (d dns) first() bool { return d.capture != dnsNone && d.exclusions == exemptNone }

// notDestinations reports whether excluded destinations are left alone first of all: of
// queries too, and of the proxy's calls to its own pod.
func (d dns) notDestinations() bool { return d.exclusions == exemptAll }

// ports are the keys by which captured queries are told: that of UDP, that of TCP.
func (d dns) ports() []rules.Key[rules.Port] {
	var keys []rules.Key[rules.Port]
	if d.udp {
		keys = append(keys, rules.UDPDport)
	}
	if d.tcp {
		keys = append(keys, rules.TCPDport)
	}
	return keys
}
