// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/weir-mesh/weir/rules"
)

// link is a rerouted interface of which more is said than whether it honours what is
// excluded of outbound.
type link struct {
	name    rules.IfName
	ignores bool
	family  rules.Family // 0: both
	exclude []netip.Prefix
	dns     bool
}

// link is nil where an entry says no more than that.
func (r *reader) link(l Rerouted, name rules.IfName, ignores bool) *link {
	const key = "interfaces.reroute"
	families := map[string]rules.Family{"both": 0, "ipv4": rules.IPv4, "ipv6": rules.IPv6}
	out := link{
		name: name, ignores: ignores,
		family:  families[r.choice(key+".family", cmp.Or(l.Family, "both"))],
		exclude: r.prefixes(key+".excludeCIDRs", l.ExcludeCIDRs),
		dns:     r.choice(key+".dns", cmp.Or(l.DNS, "disabled")) == "enabled",
	}
	slices.SortFunc(out.exclude, netip.Prefix.Compare)
	for _, p := range out.exclude {
		if f := rules.AddressFamily(p.Addr()); out.family != 0 && f != out.family {
			r.problem(key+".excludeCIDRs", p.String(), "is of %s, which %s does not reroute", f, Ref{key + ".family", l.Family})
		}
	}
	if out.family == 0 && len(out.exclude) == 0 && !out.dns {
		return nil
	}
	return &out
}

// compare has whole names before the wildcards that may cover them.
func (l link) compare(m link) int {
	return cmp.Or(cmp.Compare(wideness(l.name), wideness(m.name)), cmp.Compare(l.name, m.name), cmp.Compare(l.family, m.family),
		slices.CompareFunc(l.exclude, m.exclude, netip.Prefix.Compare))
}

func wideness(name rules.IfName) int {
	switch {
	case everyInterface(name):
		return 2
	case isWildcard(name):
		return 1
	}
	return 0
}

// from matches what comes from the interface.
func (l link) from() []rules.Node {
	var nodes []rules.Node
	if !everyInterface(l.name) {
		nodes = append(nodes, rules.IIfName.Is(l.name))
	}
	if l.family != 0 {
		nodes = append(nodes, rules.NFProto.Is(l.family))
	}
	return nodes
}

// rules writes a chain for each: queries, what is not rerouted, and what outbound makes
// of the rest, which is left alone where that captures nothing of it.
func (n rerouted) linkRules(in *chainWriter, d dns, ignoring, honouring func(c *chainWriter)) {
	for i, l := range n.links {
		name := "rerouted_" + strconv.Itoa(i+1)
		in.add("an interface's traffic counts as outbound, but for what is said of it", append(l.from(), rules.Jump(name))...)
		c := in.chain(name)
		if l.dns {
			for _, port := range d.ports() {
				c.add("DNS queries of a rerouted interface go to the proxy's DNS listener", port.Is(dnsPort), rules.RedirectTo(d.port))
			}
		}
		if len(l.exclude) > 0 {
			c.add("what goes to these is not rerouted", rules.Daddr.InSet(c.prefixes(name+"_exclude", l.exclude)), rules.Return())
		}
		if l.ignores {
			ignoring(c)
		} else {
			honouring(c)
		}
		c.add("what is not captured of a rerouted interface is left alone", rules.Accept())
	}
}

// honours reports whether some interface honours what is excluded of outbound.
func (n rerouted) honours() bool {
	return len(n.honouring) > 0 || slices.ContainsFunc(n.links, func(l link) bool { return !l.ignores })
}
