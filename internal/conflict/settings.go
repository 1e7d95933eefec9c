// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

func (j *judge) loopback() []Conflict {
	down := slices.ContainsFunc(j.seen.Links, func(l sim.Link) bool { return l.Name == loopback && l.Down })
	if !down || len(j.want.Table.Captures()) == 0 {
		return nil
	}
	return []Conflict{{Kind: LoopbackDown, Subject: "lo", Does: "is down: what is redirected would not reach the proxy", Remedy: "ip link set lo up"}}
}

// trusting is the link without its checks of where packets come from.
func trusting(l sim.Link) sim.Link {
	l.ReversePath, l.SourceMark = sim.AnyPath, false
	return l
}

// checksSources reports whether the kernel drops by the link what comes from where it should not.
func checksSources(l sim.Link) bool { return l.ReversePath != sim.AnyPath || l.SourceMark }

// settings judges each interface's checks of where packets come from by what they change.
func (j *judge) settings() (out []Conflict) {
	if !slices.ContainsFunc(j.seen.Links, checksSources) {
		return nil
	}
	h := j.host
	h.Links = slices.Clone(h.Links)
	for i, l := range h.Links { // which may have more than were seen
		if at := slices.IndexFunc(j.seen.Links, func(s sim.Link) bool { return s.Name == l.Name }); at >= 0 {
			h.Links[i].ReversePath, h.Links[i].SourceMark = j.seen.Links[at].ReversePath, j.seen.Links[at].SourceMark
		}
	}
	if c, found := j.routedUnless(h, sim.NewEvaluator(h)); found { // what the checks drop anyway is not lost by the state
		var names []string
		for _, l := range j.seen.Links {
			if l.Name != loopback && checksSources(l) {
				names = append(names, escape.Text(l.Name))
			}
		}
		c.Kind, c.Subject = SourceValidation, strings.TrimSpace("source validation "+strings.Join(names, ", "))
		c.Does = fmt.Sprintf("(rp_filter, src_valid_mark) drops %s, such as %s", list(c.Traffic), packetText(*c.Example))
		c.Remedy = "sysctl -w net.ipv4.conf.all.src_valid_mark=0 (and of the interface), net.ipv4.conf.INTERFACE.rp_filter=2 or 0, or inbound.via: redirect"
		out = append(out, c)
	}
	return out
}

// missingAddresses finds interfaces whose traffic is redirected and that have no address
// of its family to redirect to.
func (j *judge) missingAddresses() (out []Conflict) {
	bare := sim.NewEvaluator(j.host)
	out = append(out, j.loopbackWithout()...)
	for _, l := range j.host.Links {
		for _, f := range families {
			p := sim.Packet{Proto: rules.TCP, In: l.Name, Src: netip.AddrPortFrom(client(f), clientPort), Dst: netip.AddrPortFrom(world(f), 80)}
			if l.Name == loopback || l.Down || l.Port || hasFamily(l, f) {
				continue
			}
			if fate := j.fate(p); fate.Kind == sim.Dropped && bare.Evaluate(p, nil).Fate.Kind == sim.Untouched {
				out = append(out, Conflict{Kind: NoAddress, Subject: "interface " + escape.Text(l.Name), Example: &p,
					Does:    fmt.Sprintf("has no %s address to redirect to: %s connections that come in by it are dropped (such as %s)", familyNames[f], familyNames[f], packetText(p)),
					Traffic: []string{"TCP by " + escape.Text(l.Name) + " (" + familyNames[f] + ")"},
					Remedy:  fmt.Sprintf("give it an address of %s, or take it off interfaces.reroute", familyNames[f])})
			}
		}
	}
	return out
}

// loopbackWithout finds that lo has no address of a family whose traffic is redirected
// there.
func (j *judge) loopbackWithout() (out []Conflict) {
	at := slices.IndexFunc(j.seen.Links, func(l sim.Link) bool { return l.Name == loopback && !l.Down })
	for _, f := range families {
		if at < 0 || hasFamily(j.seen.Links[at], f) {
			continue
		}
		var touched traffic
		for _, c := range j.classes() {
			if c.family == f && c.packet.In == "" && j.captures(c.packet) {
				touched.add(c)
			}
		}
		if len(touched.names) == 0 {
			continue
		}
		out = append(out, Conflict{Kind: NoAddress, Subject: "lo", Traffic: touched.words(),
			Does:   fmt.Sprintf("has no %s address to redirect to: %s does not reach the proxy", familyNames[f], list(touched.words())),
			Remedy: "sysctl -w net.ipv6.conf.lo.disable_ipv6=0 (of IPv4: ip address add 127.0.0.1/8 dev lo), or ipv6: disabled in the configuration"})
	}
	return out
}

func hasFamily(l sim.Link, f rules.Family) bool {
	return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return rules.AddressFamily(p.Addr()) == f })
}

// ipv6 finds IPv6 that the rules leave alone, though the namespace has it and nobody
// switched it off in the configuration.
func (j *judge) ipv6() []Conflict {
	if j.seen.IPv6 == Chosen {
		return nil
	}
	var names, takes []string
	for _, l := range j.seen.Links {
		if own, ok := firstAddress(l, rules.IPv6); ok && l.Name != loopback {
			names = append(names, escape.Text(l.Name)+" has "+own.String())
		}
	}
	if len(names) == 0 {
		return nil
	}
	for _, c := range j.classes() {
		if c.family == rules.IPv6 {
			return nil
		}
		takes = append(takes, c.name)
	}
	if len(takes) == 0 {
		return nil
	}
	slices.Sort(takes)
	return []Conflict{{Kind: NewIPv6, Subject: "IPv6", Takes: true, May: j.seen.IPv6 == NotKnown, Traffic: slices.Compact(takes),
		Does:   fmt.Sprintf("is here (%s), and the rules leave it alone: it came after weir applied, unless the configuration says ipv6: disabled", list(names)),
		Remedy: "weir apply with the configuration, which captures IPv6 too"}}
}
