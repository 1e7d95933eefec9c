// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

func (r *reader) sidecar(c Config) *sidecar {
	s := &sidecar{table: c.Table, families: r.families(c.IPv6), untracked: r.choice("conntrack", c.Conntrack) == conntrackNone}
	mask := r.mask("routing.mask", c.Routing.Mask)
	r.readProxy(s, c.Proxy, mask)
	r.readInbound(s, c.Inbound)
	r.readOutbound(s, c.Outbound, c.Interfaces.Reroute)
	s.linkLocal = r.choice("outbound.linkLocal", c.Outbound.LinkLocal) == linkLocalCaptured
	r.readDNS(s, c.DNS)
	s.exclude = r.interfaces("interfaces.exclude", c.Interfaces.Exclude)
	if s.excludesInterface("lo") {
		r.note("interfaces.exclude", "lo is left alone too: no call to the own pod or to a resolver in it is captured")
	}
	s.reroute = r.rerouted(c.Interfaces.Reroute)
	s.bound = r.boundRoutes(s.families, s.exclude)
	r.readLoopback(s, c.Loopback)
	s.dropInvalid = r.choice("dropInvalid", c.DropInvalid) == "enabled"
	r.readRouting(s, c.Routing, mask)
	r.readUntracked(s, c)
	return s
}

// families are those that are captured. IPv4 always is.
func (r *reader) families(word string) []rules.Family {
	both := []rules.Family{rules.IPv4, rules.IPv6}
	switch r.choice("ipv6", word) {
	case "enabled":
		return both
	case "auto":
		if r.env.IPv6 {
			return both
		}
		r.note("ipv6", "auto was taken as disabled: IPv6 is left alone")
	}
	return both[:1]
}

func (r *reader) readProxy(s *sidecar, p Proxy, mask rules.Mark) {
	s.ownCalls = r.choice("proxy.ownCalls", p.OwnCalls) == callsCaptured
	s.uids = ids[rules.UID](r, "proxy.uids", p.UIDs, r.env.Users, "user")
	s.gids = ids[rules.GID](r, "proxy.gids", p.GIDs, r.env.Groups, "group")
	marked := p.Mark != "" && !parse.IsNone(string(p.Mark))
	if marked {
		s.mark, s.markMask = r.mark("proxy.mark", p.Mark, mask)
	}
	if empty(p.UIDs) && empty(p.GIDs) && !marked {
		r.problem("proxy", "", "needs uids, gids or a mark: without one the proxy's own traffic would be captured in a loop")
	}
}

func (r *reader) readInbound(s *sidecar, in Inbound) {
	s.inbound = capture{
		via:     r.choice("inbound.via", in.Via),
		port:    r.listener("inbound.port", in.Port),
		all:     everything(in.IncludePorts),
		exclude: r.ports("inbound.excludePorts", in.ExcludePorts),
	}
	if s.inbound.via == viaTProxy {
		r.onePort("inbound.port", in.Port)
	}
	s.tunnel = r.tunnel(in.TunnelPort)
	s.sources = r.sources(in, s.families)
	if !s.inbound.all {
		s.inbound.include = r.ports("inbound.includePorts", in.IncludePorts)
		r.overlapping("inbound.excludePorts", in.ExcludePorts, "inbound.includePorts", in.IncludePorts)
	}
	if !s.inbound.all && len(s.inbound.exclude) > 0 {
		r.note("inbound.excludePorts", "%s does not hold them: they are left alone anyway", Ref{Key: "inbound.includePorts"})
	}
	if s.capturesInbound() && empty(in.IncludePorts) {
		r.problem("inbound.includePorts", "", "captures nothing (want ports, all, or %s)", Ref{"inbound.via", viaNone})
	}
}

func (r *reader) readOutbound(s *sidecar, out Outbound, reroute []Rerouted) {
	s.outbound = capture{
		via:     r.choice("outbound.via", out.Via),
		port:    r.listener("outbound.port", out.Port),
		exclude: r.ports("outbound.excludePorts", out.ExcludePorts),
	}
	s.ownPod = r.choice("outbound.ownPod", out.OwnPod) == callsCaptured
	s.outboundPorts = r.ports("outbound.includePorts", out.IncludePorts)
	r.overlapping("outbound.excludePorts", out.ExcludePorts, "outbound.includePorts", out.IncludePorts)
	s.cidrs = cidrs{all: everything(out.IncludeCIDRs), exclude: r.prefixes("outbound.excludeCIDRs", out.ExcludeCIDRs)}
	if s.leavesOut(s.cidrs.exclude) {
		r.note("outbound.excludeCIDRs", "IPv6 is left alone anyway: its prefixes exclude nothing")
	}
	if !s.cidrs.all {
		s.cidrs.include = r.prefixes("outbound.includeCIDRs", out.IncludeCIDRs)
		s.cidrs.loopback = slices.ContainsFunc(out.IncludeCIDRs, isLoopback)
	}
	if s.outbound.via != viaNone && empty(out.IncludeCIDRs) && empty(out.IncludePorts) {
		r.problem("outbound.includeCIDRs", "", "captures nothing (want prefixes, all, or %s)", Ref{"outbound.via", viaNone})
	}
	if s.outbound.via != viaNone && s.noneCaptured(s.cidrs.include) {
		r.note("outbound.includeCIDRs", "holds no IPv4 prefix, and IPv6 is left alone: they capture nothing")
	}
	r.noteUnreachable(s.outbound.via, s.families)
	if s.outbound.via != viaNone && empty(out.IncludeGIDs) && empty(namesOf(reroute)) { // what is rerouted has no owner
		r.problem("outbound.includeGIDs", "", "captures nothing (want groups, all, or %s)", Ref{"outbound.via", viaNone})
	}
	s.everyGID = everything(out.IncludeGIDs)
	if !s.everyGID {
		s.includeGIDs = ids[rules.GID](r, "outbound.includeGIDs", out.IncludeGIDs, r.env.Groups, "group")
	}
	s.excludeGIDs = ids[rules.GID](r, "outbound.excludeGIDs", out.ExcludeGIDs, r.env.Groups, "group")
	s.excluded = r.excluded(out.Exclude)
	s.excludeUIDs = ids[rules.UID](r, "outbound.excludeUIDs", out.ExcludeUIDs, r.env.Users, "user")
}

func (r *reader) readDNS(s *sidecar, d DNS) {
	s.dns = dns{
		capture: r.choice("dns.capture", d.Capture),
		port:    r.port("dns.port", d.Port),

		dnsScope: r.dnsScope(d),
	}
	servers := r.addresses("dns.servers", d.Servers)
	if !empty(d.Servers) && s.dns.capture != dnsServers {
		r.problem("dns.servers", "", "is used only with %s", Ref{"dns.capture", dnsServers})
	}
	if s.dns.capture != dnsServers {
		return
	}
	if empty(d.Servers) {
		servers = r.env.Resolvers
		r.note("dns.servers", "the namespace's resolvers were taken: %v", servers)
	}
	for _, a := range servers {
		s.dns.servers = append(s.dns.servers, netip.PrefixFrom(a, a.BitLen()))
	}
	switch {
	case len(s.dns.servers) == 0 && (r.anyHost || !empty(d.Servers)): // not known yet, or a problem already
		s.dns.capture = dnsNone
	case len(s.dns.servers) == 0:
		// To go on would leave every query uncaptured that was asked to be.
		r.missing("dns.capture", "no resolver is known (want %s, %s, or none)", Ref{Key: "dns.servers"}, Ref{"dns.capture", dnsAll})
		s.dns.capture = dnsNone
	case s.noneCaptured(s.dns.servers):
		r.note("dns.capture", "no resolver is IPv4, and IPv6 is left alone: no query is captured")
	}
}

// readLoopback also decides which addresses lo needs: all of 127.0.0.0/8 is
// there already, of IPv6 only ::1.
func (r *reader) readLoopback(s *sidecar, l Loopback) {
	p, ok := r.prefix("loopback.cidr", l.CIDR)
	if ok && (!p.Addr().Is4() || !p.Addr().IsLoopback() || p.Bits() < 8) {
		r.problem("loopback.cidr", l.CIDR, "is not an IPv4 loopback prefix (want one within 127.0.0.0/8)")
	}
	r.noteMasked("loopback.cidr", l.CIDR, p)
	s.loopback = []netip.Prefix{p.Masked(), netip.MustParsePrefix("::1/128")}
	for _, a := range r.addresses("loopback.passthrough", l.Passthrough) {
		own := netip.PrefixFrom(a, a.BitLen())
		s.passthrough = append(s.passthrough, own)
		if a.Is4() && !a.IsLoopback() {
			r.note("loopback.passthrough", "%s is not a loopback address, and IPv4 ones are not added to lo: the proxy can call from it only where an interface has it", a)
		}
		if a.Is4() || a.IsLoopback() || !s.ipv6() {
			continue
		}
		if r.env.LoopbackIPv6 {
			s.lo = append(s.lo, own)
		} else {
			r.note("loopback.passthrough", "%s is not added: IPv6 is disabled on lo", a)
		}
	}
}

// noteUnused tells of keys that were written and that the rest gives no use.
func (r *reader) noteUnused(written Config, s *sidecar) {
	for _, k := range allKeys() {
		if k.Path == "routing.mask" && s.markMask != 0 && !strings.Contains(string(written.Proxy.Mark), "/") {
			continue // it is proxy.mark's
		}
		if strings.HasPrefix(k.Path, "routing.") && !s.marks() && k.isSet(&written) {
			r.note(k.Path, "is used only with %s", Ref{"inbound.via", viaTProxy})
		}
	}
}

func (r *reader) readRouting(s *sidecar, g Routing, mask rules.Mark) {
	var families []rules.Family // none is routed
	if s.marks() {
		families = r.routed(s.families, g.Table)
	}
	s.routing = r.routing(g, families, mask)
	r.noteNoMark("routing.mark", s.routing.mark, s.routing.mask)
	s.loopMark, s.loopMask = r.mark("routing.loopMark", g.LoopMark, mask)
}

// compareMarks wants two marks that tell their packets apart. One that is written
// twice is meant: the reference takes it.
func (r *reader) compareMarks(written Config, s *sidecar) {
	switch {
	case !alike(s.routing.mark, s.routing.mask, s.loopMark, s.loopMask):
	case written.Routing.LoopMark == written.Routing.Mark && written.Routing.Mark != "":
		r.note("routing.loopMark", "is %s too: the proxy's calls to its own pod are not captured as they come in", Ref{Key: "routing.mark"})
	default:
		read := written.withDefaults().Routing
		r.problem("routing.loopMark", string(read.LoopMark), "does not tell its packets from those of %s, %s (want another)", Ref{Key: "routing.mark"}, read.Mark)
	}
}
