// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// dnsTargets reads where captured queries go, by family. A port of 0 is the query's own.
func (r *reader) dnsTargets(words []string) map[rules.Family]netip.AddrPort {
	const key = "dns.to"
	out := map[rules.Family]netip.AddrPort{}
	for _, w := range r.list(key, words) {
		to, ok := parseTarget(w)
		f := rules.AddressFamily(to.Addr())
		_, twice := out[f]
		switch a := to.Addr(); {
		case !ok || a.Zone() != "":
			r.problem(key, w, "is not an address, or an address and a port (want 10.96.0.10, 127.0.0.1:8600 or [::1]:8600)")
		case a.Is4In6():
			r.problem(key, w, "is an IPv4-mapped address (write it as IPv4)")
		case a.IsUnspecified() || a.IsMulticast():
			r.problem(key, w, "is not an address that queries can go to")
		case twice:
			r.problem(key, w, "is a second address of %s (want one at most)", f)
		default:
			out[f] = to
		}
	}
	return out
}

// parseTarget reads an address, or an address and a port.
func parseTarget(word string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddr(word); err == nil {
		return netip.AddrPortFrom(a, 0), true
	}
	to, err := netip.ParseAddrPort(word)
	return to, err == nil && to.Port() != 0
}

// elsewhere reports whether queries go to another server than the proxy's listener.
func (d dns) elsewhere() bool { return len(d.to) > 0 }

const queriesElsewhere = "DNS queries go to the server that is to answer them"

// queriesTo writes a rule for each family and protocol of captured queries that go to
// another server. What else a rule matches is of
// the family; without such a match there is no rule where it says so.
func (c *chainWriter) queriesTo(d dns, matches func(f rules.Family, tcp bool) ([]rules.Node, bool)) {
	for _, f := range c.families {
		to, ok := d.to[f]
		if !ok {
			continue
		}
		for _, port := range d.ports() {
			nodes, any := matches(f, port == rules.TCPDport)
			if !any {
				continue
			}
			nodes = append([]rules.Node{rules.NFProto.Is(f)}, nodes...)
			c.add(queriesElsewhere, append(nodes, port.Is(dnsPort), rules.DNAT{To: to.Addr(), Port: rules.Port(to.Port())})...)
		}
	}
}
