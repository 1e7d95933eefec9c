package modes

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// IsProxy reports whether a process with these ids counts as the proxy under a
// sidecar's configuration.
func IsProxy(c Config, env Environment, uid rules.UID, gid rules.GID) bool {
	s := checkedSidecar(c, env)
	return slices.Contains(s.uids, uid) || slices.Contains(s.gids, gid)
}

// OutboundExample is a destination of that family that a sidecar's
// configuration captures, on the given port if it captures that; false where it
// captures none. It is of no host: a documentation address (RFC 5737, RFC 3849)
// if all destinations are captured.
func OutboundExample(c Config, env Environment, f rules.Family, port rules.Port) (netip.AddrPort, bool) {
	s := checkedSidecar(c, env)
	if s.outbound.via == viaNone || !slices.Contains(s.families, f) {
		return netip.AddrPort{}, false
	}
	candidates := s.cidrs.include
	if s.cidrs.all || len(s.outboundPorts) > 0 {
		candidates = append([]netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")}, candidates...)
	}
	if !s.cidrs.all && len(s.outboundPorts) > 0 {
		port = firstPort(s.outboundPorts[0])
	}
	if slices.ContainsFunc(s.outbound.exclude, func(r rules.Range) bool { p := rules.Span(port).Lo; return r.Lo <= p && p <= r.Hi }) {
		return netip.AddrPort{}, false
	}
	for _, p := range candidates {
		excluded := slices.ContainsFunc(slices.Concat(s.cidrs.exclude, s.loopback), func(x netip.Prefix) bool { return x.Contains(p.Addr()) })
		if rules.AddressFamily(p.Addr()) == f && !excluded {
			return netip.AddrPortFrom(p.Addr(), uint16(port)), true
		}
	}
	return netip.AddrPort{}, false
}

func firstPort(r rules.Range) rules.Port {
	return rules.Port(uint16(r.Lo[0])<<8 | uint16(r.Lo[1]))
}

// checkedSidecar is the checked form of a configuration that [State] accepted.
func checkedSidecar(c Config, env Environment) *sidecar {
	r := &reader{env: env}
	return r.sidecar(c.withDefaults())
}
