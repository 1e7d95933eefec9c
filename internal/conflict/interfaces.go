// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// maxNamed bounds how many interfaces a message names.
const maxNamed = 8

// interfaces finds those by which captured traffic does not reach the proxy where its socket is
// bound to them, which takes a route of each (rules.Route.Device): they came after the apply, or
// are more than get one. Whether any socket is bound there is not known.
func (j *judge) interfaces() []Conflict {
	bare := sim.NewEvaluator(j.host)
	var names []string
	var touched traffic
	var example *sim.Packet
	for _, l := range j.seen.Links {
		if l.Name == loopback || l.Down || l.Port {
			continue
		}
		lost := false
		for _, c := range j.classes() {
			if c.packet.In != "" || !j.captures(c.packet) || !j.delivers(c.family) {
				continue
			}
			for _, p := range boundTo(l, c) {
				if bare.Evaluate(p, nil).Fate.Kind != sim.Untouched || j.captures(p) || j.fate(p).Kind == sim.Untouched {
					continue // what the rules leave alone leaves by an excluded interface
				}
				lost = true
				touched.add(c)
				if example == nil {
					example = &p
				}
				break
			}
		}
		if lost {
			names = append(names, escape.Text(l.Name))
		}
	}
	if len(names) == 0 {
		return nil
	}
	all := list(names[:min(len(names), maxNamed)])
	if more := len(names) - maxNamed; more > 0 {
		all += fmt.Sprintf(" and %d more", more)
	}
	subject, has, it := "interface ", "has", "it"
	if len(names) > 1 {
		subject, has, it = "interfaces ", "have", "them"
	}
	return []Conflict{{Kind: NewInterface, May: true, Subject: subject + all, Traffic: touched.words(), Example: example,
		Does: fmt.Sprintf("%s no route of weir's, as what comes after an apply: %s of sockets that are bound to %s (SO_BINDTODEVICE) is dropped until the next apply (such as %s)",
			has, list(touched.words()), it, packetText(*example)),
		Remedy: "weir apply, which adds a route for each of the first 32 interfaces"}}
}

// delivers reports whether lo has an address of the family to redirect to: else nothing arrives.
func (j *judge) delivers(f rules.Family) bool {
	return !slices.ContainsFunc(j.seen.Links, func(l sim.Link) bool { return l.Name == loopback && !hasFamily(l, f) })
}

// boundTo are packets of a class that a socket sends which is bound to the link: to the world, and to a
// neighbour, for there may be no further route by it.
func boundTo(l sim.Link, c class) (out []sim.Packet) {
	for _, p := range l.Addresses {
		if rules.AddressFamily(p.Addr()) == c.family && !p.Addr().IsLinkLocalUnicast() {
			near := c.packet
			near.Dst = netip.AddrPortFrom(p.Addr().Next(), near.Dst.Port())
			far := c.packet
			near.Device, far.Device = l.Name, l.Name
			return []sim.Packet{far, near}
		}
	}
	return nil
}
