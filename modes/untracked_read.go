// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// untrackedDefaults are marks that tproxy with connection tracking does not have: while one
// kind of capture takes the other's place, both are in force.
func (c *Config) untrackedDefaults() {
	if c.Mode != ModeSidecar || !parse.IsNone(c.Conntrack) || c.Routing.Mask != "" {
		return
	}
	if c.Routing.Mark == "" {
		c.Routing.Mark = "0x53c"
	}
	if c.Routing.LoopMark == "" {
		c.Routing.LoopMark = "0x53e"
	}
}

// readUntracked reads what goes with conntrack: none, and what does not.
func (r *reader) readUntracked(s *sidecar, c Config) {
	s.udpOut = r.datagrams("udp.outbound", c.UDP.Outbound.IncludePorts, c.UDP.Outbound.Port)
	s.udpIn = r.datagrams("udp.inbound", c.UDP.Inbound.IncludePorts, c.UDP.Inbound.Port)
	assigned := r.choice("proxy.assignMark", c.Proxy.AssignMark) == "enabled"
	if assigned != !empty(c.Proxy.Cgroups) {
		r.problem("proxy.assignMark", "", "and %s go together: the mark is assigned to sockets that are made in those cgroups", Ref{Key: "proxy.cgroups"})
	}
	if !s.untracked {
		r.wantUntracked(s, c)
		return
	}
	r.refuseTracking(s, c)
	switch {
	case s.markMask == 0 && (c.Proxy.Mark == "" || parse.IsNone(string(c.Proxy.Mark))):
		r.problem("conntrack", conntrackNone, "needs %s, on the proxy's listeners and upstream sockets: what tells the proxy by %s loses the data of closed sockets, which have no owner (a proxy that cannot mark gets it by %s)",
			Ref{Key: "proxy.mark"}, Ref{Key: "proxy.uids and proxy.gids"}, Ref{Key: "proxy.cgroups and proxy.assignMark"})
	default:
		r.refuseRoutingMark(s, "routing.mark", s.routing.mark, s.routing.mask)
		r.refuseRoutingMark(s, "routing.loopMark", s.loopMark, s.loopMask)
	}
	if s.outbound.via == viaTProxy {
		r.onePort("outbound.port", c.Outbound.Port)
	}
	if s.loops() && s.routing.table == 0 {
		r.problem("routing.table", c.Routing.Table, "routes nothing, and with %s what is captured is delivered by it", Ref{"conntrack", conntrackNone})
	}
	r.resolve(s)
}

// datagrams reads one direction of the capture of UDP.
func (r *reader) datagrams(key string, ports []PortWord, port PortWord) capture {
	if everything(ports) {
		r.problem(key+".includePorts", string(ports[0]), "would capture every datagram, the proxy's DNS and the kernel's own too (want ports)")
		return capture{}
	}
	listens := r.port(key+".port", port)
	if listens == 0 {
		listens = 1
	}
	return capture{via: viaTProxy, port: rules.RangeOf(listens), include: r.ports(key+".includePorts", ports)}
}

// wantUntracked reports what only conntrack: none has.
func (r *reader) wantUntracked(s *sidecar, c Config) {
	none := Ref{"conntrack", conntrackNone}
	if s.outbound.via == viaTProxy {
		r.problem("outbound.via", viaTProxy, "goes with %s alone (want %s, or that)", none, viaRedirect)
	}
	if !empty(c.UDP.Outbound.IncludePorts) {
		r.problem("udp.outbound.includePorts", "", "go with %s alone", none)
	}
	if !empty(c.UDP.Inbound.IncludePorts) {
		r.problem("udp.inbound.includePorts", "", "go with %s alone", none)
	}
	if !empty(c.Proxy.Cgroups) {
		r.problem("proxy.cgroups", "", "go with %s alone", none)
	}
}

// refuseTracking reports, in one problem, all that needs connection tracking.
func (r *reader) refuseTracking(s *sidecar, c Config) {
	var refs []any
	add := func(key, value string) { refs = append(refs, Ref{key, value}) }
	if s.inbound.via != viaTProxy && s.inbound.via != viaNone {
		add("inbound.via", s.inbound.via)
	}
	if s.outbound.via == viaRedirect {
		add("outbound.via", viaRedirect)
	}
	if s.dropInvalid {
		add("dropInvalid", "enabled")
	}
	refs = append(refs, trackedKeys(s, c)...)
	if len(refs) > 0 {
		need := "need"
		if len(refs) == 1 {
			need = "needs"
		}
		r.problem("conntrack", conntrackNone, "does not go with "+strings.TrimSuffix(strings.Repeat("%s, ", len(refs)), ", ")+
			", which "+need+" connection tracking (want tproxy or none in both directions, or conntrack: used)", refs...)
	}
	refs = nil
	for _, key := range []string{"outbound.includeGIDs", "outbound.excludeGIDs", "outbound.excludeUIDs"} {
		words, _ := keyOf(key).Get(&c)
		if !empty(words) && !everything(words) || key == "outbound.includeGIDs" && !everything(words) {
			add(key, "")
		}
	}
	if len(refs) > 0 {
		r.problem("conntrack", conntrackNone, "does not go with "+strings.TrimSuffix(strings.Repeat("%s, ", len(refs)), ", ")+
			": each packet is judged by itself, and those of closed sockets have no owner", refs...)
	}
}

// refuseRoutingMark wants a mark of the proxy's that tells its packets from those that
// are delivered to it.
func (r *reader) refuseRoutingMark(s *sidecar, key string, mark, mask rules.Mark) {
	if s.loops() && alike(s.mark, s.markMask, mark, mask) {
		r.problem("proxy.mark", MarkText(s.mark, s.markMask), "does not tell its packets from those of %s, %s: the proxy's leave as they are, those are delivered over lo (want another)",
			Ref{Key: key}, MarkText(mark, mask))
	}
}

// MarkText is a mark as a configuration has it: value/mask.
func MarkText(mark, mask rules.Mark) string { return string(MaskedMark(uint32(mark), uint32(mask))) }

// resolve gives each known resolver an address where the plain DNS listener gets its
// queries.
func (r *reader) resolve(s *sidecar) {
	if s.dns.capture == dnsNone {
		return
	}
	if s.dns.capture == dnsAll {
		for _, a := range r.env.Resolvers {
			s.dns.servers = append(s.dns.servers, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if len(s.dns.servers) > maxResolvers {
		r.problem("dns.servers", "", "holds %d resolvers, and with %s at most %d", len(s.dns.servers), Ref{"conntrack", conntrackNone}, maxResolvers)
		s.dns.servers = s.dns.servers[:maxResolvers]
	}
	s.resolverAddresses = plainAddresses(s.dns.servers)
	for _, a := range s.resolverAddresses {
		if a.Addr().Is6() && !a.Addr().IsLoopback() && s.ipv6() && r.env.LoopbackIPv6 {
			s.lo = append(s.lo, a)
		}
	}
}

// trackedKeys are keys whose rules are of nat or of conntrack's zones, or judge by the
// first packet of a connection.
func trackedKeys(s *sidecar, c Config) (refs []any) {
	for _, k := range []struct {
		set        bool
		key, value string
	}{
		{len(s.excluded) > 0, "outbound.exclude", ""},
		{s.dns.capture != dnsNone && !(s.dns.udp && s.dns.tcp), "dns.protocols", ""},
		{s.dns.exclusions != exemptOwners, "dns.exclusions", s.dns.exclusions},
		{s.dns.proxyQueries, "dns.proxyQueries", c.DNS.ProxyQueries},
		{s.dns.elsewhere(), "dns.to", ""},
		{len(s.reroute.links) > 0, "interfaces.reroute", "with excludeCIDRs, dns or family"},
	} {
		if k.set {
			refs = append(refs, Ref{k.key, k.value})
		}
	}
	return refs
}
