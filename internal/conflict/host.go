// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// bareHost is the namespace as it would be if nobody but the kernel had changed its
// routing, where something listens wherever traffic goes.
func (j *judge) bareHost() sim.Host {
	h := sim.Host{Sockets: j.standIns()}
	for _, l := range j.seen.Links {
		h.Links = append(h.Links, trusting(l))
	}
	for _, r := range j.seen.PolicyRules {
		if r.FromKernel() {
			h.PolicyRules = append(h.PolicyRules, r)
		}
	}
	for _, r := range j.seen.Routes {
		if !j.ownTable(r.Table) {
			h.Routes = append(h.Routes, r)
		}
	}
	return connected(h)
}

// connected is a host that reaches the world: a namespace may be looked at before whoever
// makes it has linked it, and is judged as it will be. Families that no interface has an
// address of stay out, unless there is no interface at all.
func connected(h sim.Host) sim.Host {
	for _, p := range []string{"127.0.0.1/8", "::1/128"} { // which a link that is down may lack
		h = h.Plus(loopback, netip.MustParsePrefix(p))
	}
	if !slices.ContainsFunc(h.Links, func(l sim.Link) bool { return l.Name != loopback && len(l.Addresses) > 0 }) {
		for _, p := range assumed {
			h = h.Plus("eth0", p)
		}
		if len(h.PolicyRules) == 0 {
			h.PolicyRules = sim.NewHost().PolicyRules
		}
	}
	for _, f := range families {
		i := slices.IndexFunc(h.Links, func(l sim.Link) bool { _, ok := firstAddress(l, f); return ok && l.Name != loopback })
		if i < 0 || reaches(h, f) {
			continue
		}
		h.Routes = append(slices.Clip(h.Routes), sim.Route{Table: rules.MainTable, Dst: netip.PrefixFrom(unspecified(f), 0), Type: rules.Unicast, Out: h.Links[i].Name})
	}
	return h
}

// assumed are the addresses of a pod that has none yet.
var assumed = []netip.Prefix{netip.MustParsePrefix("10.244.1.5/24"), netip.MustParsePrefix("fd00:10:244:1::5/64")}

func unspecified(f rules.Family) netip.Addr {
	if f == rules.IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// reaches reports whether the host has a route to the world.
func reaches(h sim.Host, f rules.Family) bool {
	p := sim.Packet{Proto: rules.TCP, Dst: netip.AddrPortFrom(world(f), 80), Socket: &sim.Socket{Proto: rules.TCP}}
	return sim.NewEvaluator(h).Evaluate(p, nil).Fate.Kind == sim.Untouched
}

// ownTable reports whether the state has that table for itself.
func (j *judge) ownTable(table uint32) bool {
	return slices.ContainsFunc(j.want.Routes, func(r rules.Route) bool { return r.Table == table && r.Device == "" })
}

const (
	appPort    = 8080
	clientPort = 40000
	appUser    = 1000
)

// standIns are listeners on the ports that traffic is captured to, and the application's.
func (j *judge) standIns() (out []sim.Socket) {
	listen := func(port rules.Port, uid rules.UID, transparent bool) {
		for _, proto := range []rules.Proto{rules.TCP, rules.UDP} {
			for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
				out = append(out, sim.Socket{Proto: proto, Local: netip.AddrPortFrom(a, uint16(port)), UID: uid, Transparent: transparent})
			}
		}
	}
	for _, p := range capturePorts(j.want.Table) {
		listen(p, j.proxyUser(), true)
	}
	listen(appPort, appUser, false)
	return out
}

// capturePorts are those that the table's rules take traffic to.
func capturePorts(t *rules.Table) (out []rules.Port) {
	for _, n := range t.Captures() {
		switch n := n.(type) {
		case rules.Redirect:
			if n.Ports != nil {
				out = append(out, rules.Port(n.Ports.Lo.Uint64()))
			}
		case rules.TProxy:
			if n.Port != 0 {
				out = append(out, n.Port)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// proxyUsers are the users that the rules take for the proxy's.
func (j *judge) proxyUsers() (out []rules.Range) {
	s := j.want.Table.Set(modes.ProxyUIDs)
	if s == nil || len(s.Key) != 1 {
		return nil
	}
	for _, e := range s.Elements {
		out = append(out, e.Key[0])
	}
	return out
}

func (j *judge) proxyUser() rules.UID {
	if users := j.proxyUsers(); len(users) > 0 {
		return rules.UID(users[0].Lo.Uint64())
	}
	return 0
}
