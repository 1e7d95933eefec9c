// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Space is every packet, by classes.
type Space struct {
	Host   sim.Host      // with the interfaces that the rules name
	States []rules.State // with an example in every set that changes at run time
	dims   []dimension
	cells  int
}

// The dimensions, in the order in which a row names them.
const (
	way = iota
	uid
	gid
	mark
	src
	proto
	dst
	dport
	sport
	state
	dimensions
)

const maxCells = 1 << 20

// ErrTooMany is that of a ruleset which tells more classes apart than can be
// looked at.
var ErrTooMany = errors.New("the rules tell too many classes of packets apart")

// New cuts the space by what the states test packets for, and by where the host
// has its addresses.
func New(host sim.Host, states ...rules.State) (*Space, error) {
	var tables []*rules.Table
	states = mapped(states, withExamples)
	for _, s := range states {
		host = host.With(rules.State{Addresses: s.Addresses})
		if s.Table != nil {
			tables = append(tables, s.Table)
		}
	}
	all := tests(tables)
	s := &Space{Host: withNamedLinks(host, all), States: states, dims: make([]dimension, dimensions), cells: 1}
	s.dims[way] = s.ways(all)
	s.dims[uid] = ids("uid", all[rules.SkUID.Selector()])
	s.dims[gid] = ids("gid", all[rules.SkGID.Selector()])
	var err error
	if s.dims[mark], err = marks(markTests(all, s.Host, states)); err != nil {
		return nil, err
	}
	s.dims[src] = s.sources(all)
	s.dims[proto] = dimension{"", []class{{text: "tcp", value: rules.TCP}, {text: "udp", value: rules.UDP}, {text: "icmp", value: rules.ICMP}}}
	s.dims[dst] = s.destinations(all)
	s.dims[dport] = ports("port", all, 443, rules.TCPDport.Selector(), rules.UDPDport.Selector(), rules.ThDport.Selector())
	s.dims[sport] = ports("from port", all, 40000, rules.TCPSport.Selector(), rules.UDPSport.Selector(), rules.ThSport.Selector())
	s.dims[state] = ctStates(all[rules.CTStates.Selector()])
	for _, d := range s.dims {
		if s.cells *= len(d.classes); s.cells > maxCells {
			return nil, fmt.Errorf("%w: over %d", ErrTooMany, maxCells)
		}
	}
	return s, nil
}

// withExamples is the state with sets that hold an example each, where they hold
// what comes at run time.
func withExamples(s rules.State) rules.State {
	if s.Table == nil {
		return s
	}
	t := *s.Table
	t.Sets = mapped(t.Sets, func(set *rules.Set) *rules.Set {
		if !set.Live || len(set.Key) != 1 {
			return set
		}
		one := *set
		one.Live = false
		if e, ok := liveExamples[set.Key[0]]; ok {
			one.Elements = append(slices.Clone(one.Elements), rules.Element{Key: []rules.Range{{Lo: e, Hi: e}}, Comment: atRunTime})
		}
		return &one
	})
	s.Table = &t
	return s
}

// atRunTime is the comment of an example of what comes at run time.
const atRunTime = "at run time"

var liveExamples = map[rules.DataType]rules.Bits{
	rules.IPDaddr.Type(): address("192.0.2.77"), rules.IP6Daddr.Type(): address("2001:db8:77::77"),
	rules.TCPDport.Type(): span(rules.Port(7777)), rules.MetaMark.Type(): span(rules.Mark(0x7777)), rules.SkUID.Type(): span(rules.UID(7777)), rules.SkGID.Type(): span(rules.GID(7777)),
}

func mapped[T any](in []T, f func(T) T) []T {
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// withNamedLinks gives the host an interface of every name that rules test for,
// so that what is said of it shows.
func withNamedLinks(h sim.Host, all map[rules.Selector][]test) sim.Host {
	const subnets = 64 // of documentation and shared address space, one a link
	n := 0
	for _, s := range []rules.Selector{rules.IIfName.Selector(), rules.OIfName.Selector()} {
		for _, t := range all[s] {
			for _, r := range t.ranges {
				name := nameOf(r)
				if n == subnets || slices.ContainsFunc(h.Links, func(l sim.Link) bool { return l.Name == name }) {
					continue
				}
				h = h.Plus(name, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(n), 1}), 24))
				h = h.Plus(name, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0xff, byte(n), 15: 1}), 64))
				n++
			}
		}
	}
	return h
}

// nameOf is an interface that the range names; of a wildcard, its first.
func nameOf(r rules.Range) string {
	name := strings.TrimRight(string(r.Lo), "\x00")
	if !r.Single() {
		return name + "0"
	}
	return name
}

// ways are how a packet comes into the namespace: it is sent from this pod, or comes by
// one of the interfaces that are told apart.
func (s *Space) ways(all map[rules.Selector][]test) dimension {
	d := dimension{classes: []class{{text: "from this pod", value: ""}}}
	var seen []string
	for _, l := range s.Host.Links {
		if l.Name == "lo" {
			continue
		}
		in := ""
		for i, t := range slices.Concat(all[rules.IIfName.Selector()], all[rules.OIfName.Selector()]) {
			if t.holds(rules.RangeOf(rules.IfName(l.Name)).Lo) {
				in += fmt.Sprint(i, " ")
			}
		}
		if !slices.Contains(seen, in) {
			seen = append(seen, in)
			d.classes = append(d.classes, class{text: "in by " + l.Name, value: l.Name})
		}
	}
	return d
}

// packet is the one that stands for a cell; false where there is none such.
func (s *Space) packet(cell []int) (sim.Packet, bool) {
	value := func(d int) any { return s.dims[d].classes[cell[d]].value }
	bits := func(d int) rules.Bits { return value(d).(rules.Bits) }
	p := sim.Packet{Proto: value(proto).(rules.Proto), In: value(way).(string), State: value(state).(rules.CTState)}
	to := addrOf(bits(dst))
	from := addrOf(bits(src))
	if from.IsValid() && from.Is4() != to.Is4() {
		return p, false
	}
	if p.Proto == rules.ICMP {
		if cell[dport] > 0 || cell[sport] > 0 {
			return p, false // it has no ports
		}
		if to.Is6() {
			p.Proto = rules.ICMPv6
		}
		p.Dst, p.Src = netip.AddrPortFrom(to, 0), netip.AddrPortFrom(from, 0)
	} else {
		p.Dst = netip.AddrPortFrom(to, uint16(bits(dport).Uint64()))
		p.Src = netip.AddrPortFrom(from, uint16(bits(sport).Uint64()))
	}
	if p.In == "" {
		p.Mark = rules.Mark(bits(mark).Uint64())
		p.Socket = &sim.Socket{Proto: p.Proto, UID: rules.UID(bits(uid).Uint64()), GID: rules.GID(bits(gid).Uint64()), Mark: p.Mark, Transparent: from.IsValid()}
		return p, true
	}
	if cell[uid] > 0 || cell[gid] > 0 || cell[mark] > 0 {
		return p, false // it has no owner here, and no mark yet
	}
	if !from.IsValid() {
		p.Src = netip.AddrPortFrom(addrOf(exampleOf(unicast4)), p.Src.Port())
		if to.Is6() {
			p.Src = netip.AddrPortFrom(addrOf(exampleOf(unicast6)), p.Src.Port())
		}
	}
	return p, true
}
