// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// ambientPod is the checked configuration of a pod without a proxy of its own:
// the node's opens its sockets in the pod's network namespace, and marks what
// it sends.
type ambientPod struct {
	table    string
	families []rules.Family

	mark, markMask rules.Mark // of the proxy's packets
	inbound        capture
	tunnel         []rules.Range // the tunnel listener's port or ports
	outbound       capture
	linkLocal      bool // captured too
	ownPod         bool // the application's calls to its own pod are captured
	dns            dns
	exclude        exclusions
	bound          []rules.Route // for what sockets send that are bound to an interface
	reroute        rerouted
	probes         []netip.Prefix
	routing        routing // of connections that the proxy opened with a client's address
}

// exclusions are left alone. A list whose key is written has its sets even where
// it is empty: what is added to it later changes elements, and no rule.
type exclusions struct {
	interfaces    []rules.IfName
	sources       []netip.Prefix
	inboundPorts  []rules.Range
	outboundPorts []rules.Range
	cidrs         []netip.Prefix
	gids          []rules.Range
	uids          []rules.Range
	together      []excluded
}

func (r *reader) ambientPod(c Config) *ambientPod {
	p := &ambientPod{table: c.Table, families: r.families(c.IPv6)}
	mask := r.mask("routing.mask", c.Routing.Mask)
	p.mark, p.markMask = r.mark("proxy.mark", c.Proxy.Mark, mask)
	p.inbound = capture{via: r.choice("inbound.via", c.Inbound.Via), port: r.listener("inbound.port", c.Inbound.Port)}
	p.tunnel = r.tunnel(c.Inbound.TunnelPort)
	p.outbound = capture{via: r.choice("outbound.via", c.Outbound.Via), port: r.listener("outbound.port", c.Outbound.Port)}
	p.dns = dns{capture: r.choice("dns.capture", c.DNS.Capture), port: r.port("dns.port", c.DNS.Port), dnsScope: r.dnsScope(c.DNS)}
	p.ownPod = r.choice("outbound.ownPod", c.Outbound.OwnPod) == callsCaptured
	p.linkLocal = r.choice("outbound.linkLocal", c.Outbound.LinkLocal) == linkLocalCaptured
	p.exclude = r.exclusions(c)
	p.bound = r.boundRoutes(p.families, r.interfaces("interfaces.exclude", c.Interfaces.Exclude))
	p.exclude.sources = written(c.Inbound.ExcludeSources, r.sources(c.Inbound, p.families))
	p.reroute = r.rerouted(c.Interfaces.Reroute)
	for _, a := range r.probeAddresses(c.Probes.Addresses) {
		p.probes = append(p.probes, netip.PrefixFrom(a, a.BitLen()))
	}
	r.readConnectionMark(p, c, mask)
	r.noteUnreachable(p.outbound.via, p.families)
	return p
}

func (r *reader) exclusions(c Config) exclusions {
	return exclusions{
		interfaces:    written(c.Interfaces.Exclude, r.interfaces("interfaces.exclude", c.Interfaces.Exclude)),
		inboundPorts:  written(c.Inbound.ExcludePorts, r.ports("inbound.excludePorts", c.Inbound.ExcludePorts)),
		outboundPorts: written(c.Outbound.ExcludePorts, r.ports("outbound.excludePorts", c.Outbound.ExcludePorts)),
		cidrs:         written(c.Outbound.ExcludeCIDRs, r.prefixes("outbound.excludeCIDRs", c.Outbound.ExcludeCIDRs)),
		gids:          written(c.Outbound.ExcludeGIDs, ids[rules.GID](r, "outbound.excludeGIDs", c.Outbound.ExcludeGIDs, r.env.Groups, "group")),
		uids:          written(c.Outbound.ExcludeUIDs, ids[rules.UID](r, "outbound.excludeUIDs", c.Outbound.ExcludeUIDs, r.env.Users, "user")),
		together:      r.excluded(c.Outbound.Exclude),
	}
}

// written is the list, which is nil only where its key was not written.
func written[W ~string, T any](words []W, list []T) []T {
	if words == nil {
		return nil
	}
	return append([]T{}, list...)
}

// probeAddresses are those from which pods see the kubelet's probes.
func (r *reader) probeAddresses(words []string) []netip.Addr {
	const key = "probes.addresses"
	list := r.addresses(key, words)
	seen := map[rules.Family]bool{}
	for _, a := range list {
		f := rules.AddressFamily(a)
		if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
			r.problem(key, a.String(), "is not an address that packets can come from")
		}
		if seen[f] {
			r.problem(key, a.String(), "is a second address of %s (want one at most)", f)
		}
		seen[f] = true
	}
	return list
}

// readConnectionMark reads the mark that a connection of the proxy keeps. The
// proxy's own mark must be another: packets with this one stay in the pod.
func (r *reader) readConnectionMark(p *ambientPod, c Config, mask rules.Mark) {
	p.routing = r.routing(c.Routing, r.routed(p.families, c.Routing.Table), mask)
	if alike(p.routing.mark, p.routing.mask, p.mark, p.markMask) {
		r.problem("routing.mark", string(c.Routing.Mark), "does not tell its packets from those of %s, %s", Ref{Key: "proxy.mark"}, c.Proxy.Mark)
	}
}
