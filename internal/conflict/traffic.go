// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// class is traffic that the wanted state captures, or that its proxy sends on, with a
// packet that stands for it.
type class struct {
	name   string
	family rules.Family
	packet sim.Packet
	part   bool // the packet is one of few of the class: a rule names it
}

// judge holds what everything in a namespace is judged by.
type judge struct {
	want    rules.State
	seen    Seen
	host    sim.Host // the namespace without anything of others'
	alone   *sim.Evaluator
	classes func() []class             // of traffic: worked out where something is judged by them
	fates   map[packetKey]sim.Fate     // of first packets by the wanted state alone, by packet
	known   map[packetKey]sim.Exchange // likewise, of connections
}

func newJudge(want rules.State, seen Seen) *judge {
	j := &judge{want: want, seen: seen, fates: map[packetKey]sim.Fate{}, known: map[packetKey]sim.Exchange{}}
	j.host = j.bareHost()
	j.alone = sim.NewEvaluator(j.host.With(want), sim.Table{Table: want.Table})
	j.classes = sync.OnceValue(j.captured)
	return j
}

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
	p := sim.Packet{Proto: rules.TCP, Dst: netip.AddrPortFrom(world[f], 80), Socket: &sim.Socket{Proto: rules.TCP}}
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

// Addresses that no host has (RFC 5737, RFC 3849).
var (
	world  = map[rules.Family]netip.Addr{rules.IPv4: netip.MustParseAddr("203.0.113.7"), rules.IPv6: netip.MustParseAddr("2001:db8:1::7")}
	client = map[rules.Family]netip.Addr{rules.IPv4: netip.MustParseAddr("203.0.113.9"), rules.IPv6: netip.MustParseAddr("2001:db8:1::9")}
)

var families = []rules.Family{rules.IPv4, rules.IPv6}

var familyNames = map[rules.Family]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}

// captured are the classes of traffic that the state captures by itself.
func (j *judge) captured() (out []class) {
	known := map[string]bool{}
	for _, c := range j.candidates() {
		if !j.captures(c.packet) { // perhaps the configuration captures listed ports or addresses alone
			like := witnesses(j.want.Table, c.packet)
			i := slices.IndexFunc(like, j.captures)
			if i < 0 {
				continue
			}
			c.packet = like[i]
		}
		f := j.fate(c.packet)
		if key := fmt.Sprint(c.packet.Proto, c.packet.In, c.family, f.Port); !known[key] { // TCP queries are often like all TCP
			known[key] = true
			out = append(out, c)
		}
	}
	return append(out, j.onward()...)
}

func (j *judge) captures(p sim.Packet) bool {
	kind := j.fate(p).Kind
	return kind == sim.Redirected || kind == sim.Proxied
}

// candidates are packets of every class that a state may capture.
func (j *judge) candidates() (out []class) {
	for _, f := range families {
		from := func(proto rules.Proto, port uint16) sim.Packet {
			return sim.Packet{Proto: proto, Dst: netip.AddrPortFrom(world[f], port), Src: netip.AddrPortFrom(netip.Addr{}, clientPort),
				Socket: &sim.Socket{Proto: proto, UID: appUser, GID: appUser}}
		}
		out = append(out, class{name: "outbound TCP", family: f, packet: from(rules.TCP, 80)},
			class{name: "DNS queries", family: f, packet: from(rules.UDP, 53)}, class{name: "DNS queries", family: f, packet: from(rules.TCP, 53)})
		for _, l := range j.host.Links {
			if own, ok := firstAddress(l, f); ok && l.Name != loopback {
				out = append(out, class{name: "inbound TCP by " + escape.Text(l.Name), family: f, packet: sim.Packet{
					Proto: rules.TCP, In: l.Name, Src: netip.AddrPortFrom(client[f], clientPort), Dst: netip.AddrPortFrom(own, appPort)}})
			}
		}
	}
	return out
}

const loopback = "lo"

// firstAddress is the link's first address of the family that others can reach.
func firstAddress(l sim.Link, f rules.Family) (netip.Addr, bool) {
	for _, p := range l.Addresses {
		if a := p.Addr(); rules.AddressFamily(a) == f && !a.IsLinkLocalUnicast() && !a.IsLoopback() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// onward are calls of the proxy to the application from the client's address, whose
// answers the state brings back by a mark.
func (j *judge) onward() (out []class) {
	bare := sim.NewEvaluator(j.host)
	for _, f := range families {
		for _, p := range j.onwardCalls(f) {
			x := j.exchange(p)
			if x.End == sim.Completed && x.First.Fate.Kind == sim.Untouched && bare.Connect(p, nil).End != sim.Completed {
				out = append(out, class{name: onwardTraffic, family: f, packet: p})
				break
			}
		}
	}
	return out
}

const onwardTraffic = "the proxy's calls to the application from the client's address"

// onwardCalls are such calls with each mark that the state knows, by the proxy's user and
// by root, which a transparent proxy may need to be.
func (j *judge) onwardCalls(f rules.Family) (out []sim.Packet) {
	for _, l := range j.host.Links {
		own, ok := firstAddress(l, f)
		if !ok || l.Name == loopback {
			continue
		}
		for _, m := range marksOf(j.want) {
			for _, uid := range []rules.UID{j.proxyUser(), 0} {
				out = append(out, sim.Packet{Proto: rules.TCP, Mark: m, Src: netip.AddrPortFrom(client[f], clientPort), Dst: netip.AddrPortFrom(own, appPort),
					Socket: &sim.Socket{Proto: rules.TCP, UID: uid, Mark: m, Transparent: true}})
			}
		}
		return out
	}
	return nil
}

// marksOf are the marks that the state's rules and policy rules ask for.
func marksOf(s rules.State) (out []rules.Mark) {
	if len(s.PolicyRules) == 0 {
		return nil
	}
	for _, c := range s.Table.Chains {
		for _, r := range c.Rules {
			for _, n := range r.Nodes {
				if m, is := n.(rules.Match); is && len(m.Key) == 1 && m.Key[0] == rules.MetaMark.Selector() {
					for _, e := range m.Elements {
						out = append(out, rules.Mark(e.Key[0].Lo.Uint64()))
					}
				}
			}
		}
	}
	for _, r := range s.PolicyRules {
		out = append(out, r.Mark)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fate is what becomes of a packet, by the state alone.
func (j *judge) fate(p sim.Packet) sim.Fate {
	key := keyOf(p)
	f, ok := j.fates[key]
	if !ok {
		f = j.alone.Evaluate(p, nil).Fate
		j.fates[key] = f
	}
	return f
}

// exchange is what becomes of the connection that a packet opens, by the state alone.
func (j *judge) exchange(p sim.Packet) sim.Exchange {
	key := keyOf(p)
	x, ok := j.known[key]
	if !ok {
		x = j.alone.Connect(p, nil)
		j.known[key] = x
	}
	return x
}
