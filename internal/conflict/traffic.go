// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/weir-mesh/weir/internal/escape"
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

// world and client are addresses that no host has (RFC 5737, RFC 3849).
func world(f rules.Family) netip.Addr  { return nobody(f, 7) }
func client(f rules.Family) netip.Addr { return nobody(f, 9) }

func nobody(f rules.Family, last byte) netip.Addr {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte{203, 0, 113, last})
	}
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: 1, 15: last})
}

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
			return sim.Packet{Proto: proto, Dst: netip.AddrPortFrom(world(f), port), Src: netip.AddrPortFrom(netip.Addr{}, clientPort),
				Socket: &sim.Socket{Proto: proto, UID: appUser, GID: appUser}}
		}
		out = append(out, class{name: "outbound TCP", family: f, packet: from(rules.TCP, 80)},
			class{name: "DNS queries", family: f, packet: from(rules.UDP, 53)}, class{name: "DNS queries", family: f, packet: from(rules.TCP, 53)})
		for _, l := range j.host.Links {
			if own, ok := firstAddress(l, f); ok && l.Name != loopback {
				out = append(out, class{name: "inbound TCP by " + escape.Text(l.Name), family: f, packet: sim.Packet{
					Proto: rules.TCP, In: l.Name, Src: netip.AddrPortFrom(client(f), clientPort), Dst: netip.AddrPortFrom(own, appPort)}})
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
				out = append(out, sim.Packet{Proto: rules.TCP, Mark: m, Src: netip.AddrPortFrom(client(f), clientPort), Dst: netip.AddrPortFrom(own, appPort),
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
