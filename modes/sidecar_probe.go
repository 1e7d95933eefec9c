// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// Caller is a process that opens connections in a sidecar's pod.
type Caller struct {
	UID   rules.UID
	GID   rules.GID
	Local []netip.Addr // the pod's own addresses
}

// Example is a connection that a configuration captures if that caller opens it.
type Example struct {
	What   string     // "outbound IPv4"
	From   netip.Addr // none leaves it to the kernel
	To     netip.AddrPort
	Port   rules.Port // of the proxy's listener that it must reach, on a loopback address
	Cannot string     // why there is no such connection, "" where there is
}

// Examples are one connection for each family that a sidecar's configuration
// captures: for the proxy a call to its own pod, for other users one that leaves it, and where
// queries to every server are captured one over TCP to an address that no host has.
// The port is the wanted one if that is captured, else the next that is.
func Examples(c Config, env Environment, by Caller, port rules.Port) []Example {
	s := (&reader{mode: c.Mode, env: env}).sidecar(c.withDefaults()) // which State accepted
	var out []Example
	for _, f := range s.families {
		if holds(s.uids, by.UID) || holds(s.gids, by.GID) {
			out = append(out, s.call(f, env, by, port))
		} else {
			out = append(out, s.opened(f, by, port))
			if query, some := s.query(f, by); some {
				out = append(out, query)
			}
		}
	}
	return out
}

// excludesInterface reports whether a name or a wildcard excludes an interface.
func (s *sidecar) excludesInterface(name string) bool {
	return slices.ContainsFunc(s.exclude, func(n rules.IfName) bool { return parse.Matches(string(n), name) })
}

// call is the proxy's to its own pod: see proxyTraffic for which are captured.
func (s *sidecar) call(f rules.Family, env Environment, by Caller, port rules.Port) Example {
	loopback := map[rules.Family]netip.Addr{rules.IPv4: netip.AddrFrom4([4]byte{127, 0, 0, 1}), rules.IPv6: netip.IPv6Loopback()}
	e := Example{What: "inbound " + f.String(), From: loopback[f], Port: s.inbound.first()}
	calls := holds(s.uids, by.UID)
	if s.localStays() {
		calls = calls && holds(s.uids[:1], by.UID) || len(s.uids) == 0
	}
	to := slices.DeleteFunc(append(addrs(s.passthrough), by.Local...), func(a netip.Addr) bool {
		return rules.AddressFamily(a) != f || inAny(s.loopback, a)
	})
	port, free := nextPort(port, func(p rules.Port) bool {
		return !holds(s.tunnel, p) && (p != dnsPort || !s.dns.captures(true)) && !s.excludesPort(p) && !excludesTCP(s.excluded, by.UID, p)
	})
	switch {
	case f == rules.IPv6 && !env.LoopbackIPv6:
		e.Cannot = "IPv6 is disabled on lo"
	case !calls || !s.ownCalls:
		e.Cannot = "this user's or group's calls to its own pod are not captured"
	case len(to) == 0:
		e.Cannot = "every address of the pod counts as loopback"
	case !free:
		e.Cannot = "every port is excluded"
	default:
		e.To = netip.AddrPortFrom(to[0], uint16(port))
	}
	return e
}

// opened is what users other than the proxy open. Where all destinations are captured
// it goes to nobody.
func (s *sidecar) opened(f rules.Family, by Caller, port rules.Port) Example {
	e := Example{What: "outbound " + f.String(), Port: s.outbound.first()}
	included := slices.DeleteFunc(slices.Clone(s.cidrs.include), func(p netip.Prefix) bool { return rules.AddressFamily(p.Addr()) != f })
	anyPort := s.cidrs.all || len(included) > 0
	if s.cidrs.all || len(included) == 0 {
		included = nobody[f]
	}
	to, somewhere := s.within(included)
	port, free := nextPort(port, func(p rules.Port) bool {
		return (anyPort || holds(s.outboundPorts, p)) && (p != dnsPort || !s.dns.captures(true)) && !s.excludesPort(p) && !excludesTCP(s.excluded, by.UID, p)
	})
	looked := s.everyGID || holds(s.includeGIDs, by.GID)
	switch {
	case s.outbound.via == viaNone || !anyPort && len(s.outboundPorts) == 0:
		e.Cannot = "nothing is captured that way"
	case !looked || holds(s.excludeGIDs, by.GID) || holds(s.excludeUIDs, by.UID):
		e.Cannot = "this user's or group's traffic is left alone"
	case !somewhere:
		e.Cannot = "the excluded destinations leave none to try"
	case !free:
		e.Cannot = "the excluded ports leave none to try"
	default:
		e.To = netip.AddrPortFrom(to, uint16(port))
	}
	return e
}

// query is a connection to port 53 of no host's; false where one to a real server alone would
// be captured, or none is.
func (s *sidecar) query(f rules.Family, by Caller) (Example, bool) {
	e := Example{What: "DNS " + f.String(), Port: s.dns.port}
	looked := s.everyGID || holds(s.includeGIDs, by.GID)
	to, somewhere := s.within(nobody[f])
	switch {
	case s.dns.capture != dnsAll || !s.dns.captures(true) || s.dns.elsewhere() || !somewhere,
		s.excludesPort(dnsPort), excludesTCP(s.excluded, by.UID, dnsPort),
		!looked || holds(s.excludeGIDs, by.GID) || holds(s.excludeUIDs, by.UID):
		return e, false
	}
	e.To = netip.AddrPortFrom(to, uint16(dnsPort))
	return e, true
}

// nobody are documentation addresses (RFC 5737, RFC 3849), which no host has.
var nobody = map[rules.Family][]netip.Prefix{
	rules.IPv4: {netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("203.0.113.1/32")},
	rules.IPv6: {netip.MustParsePrefix("2001:db8::1/128")},
}

// within is an address of one of the prefixes that is not excluded: the first of
// each, or one that follows on an exclusion.
func (s *sidecar) within(included []netip.Prefix) (netip.Addr, bool) {
	excluded := slices.Concat(s.cidrs.exclude, s.loopback)
	for _, p := range included {
		candidates := []netip.Addr{p.Addr()}
		for _, x := range excluded {
			if next := lastOf(x).Next(); p.Contains(next) {
				candidates = append(candidates, next)
			}
		}
		for _, a := range candidates {
			if !inAny(excluded, a) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	last, _ := netip.AddrFromSlice([]byte(rules.RangeOf(p).Hi))
	return last
}

func (s *sidecar) excludesPort(p rules.Port) bool { return holds(s.outbound.exclude, p) }

// nextPort is the first port from that one on, round the end, that will do.
func nextPort(from rules.Port, good func(rules.Port) bool) (rules.Port, bool) {
	for p, tries := from, 0; tries <= 0xffff; p, tries = p+1, tries+1 {
		if p != 0 && good(p) {
			return p, true
		}
	}
	return 0, false
}

// holds reports whether one of the ranges holds a value.
func holds[T rules.Value](list []rules.Range, v T) bool {
	at := rules.RangeOf(v).Lo
	return slices.ContainsFunc(list, func(r rules.Range) bool { return r.Lo <= at && at <= r.Hi })
}

func inAny(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func addrs(list []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, p := range list {
		out[i] = p.Addr()
	}
	return out
}
