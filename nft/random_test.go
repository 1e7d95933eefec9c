// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// chooser makes choices of a string of bytes: the same bytes, the same choices.
// When they run out every choice is the first.
type chooser struct {
	data    []byte
	loading bool // only what can be told to nft in text
}

// n is a number from 0 up to, not including, limit.
func (c *chooser) n(limit int) int {
	if len(c.data) == 0 {
		return 0
	}
	v := int(c.data[0])
	c.data = c.data[1:]
	return v % limit
}

// one is true one time in n.
func (c *chooser) one(n int) bool { return c.n(n) == n-1 }

func pick[T any](c *chooser, of ...T) T { return of[c.n(len(of))] }

// number is a number of so many bytes, often an extreme one.
func (c *chooser) number(length int) uint64 {
	most := uint64(1)<<(8*length-1)<<1 - 1
	var b [8]byte
	switch c.n(8) {
	case 0:
		return uint64(c.n(4))
	case 1:
		return most - uint64(c.n(3))
	case 2, 3, 4:
		return uint64(c.n(256)) & most
	}
	c.data = c.data[copy(b[:], c.data):]
	return binary.BigEndian.Uint64(b[:]) & most
}

var randomNames = []string{"lo", "eth0", "eth1", "veth", "wg-0.1", "abcdefghijklmno", "é"}

// value is a value of the type, as a range of one.
func (c *chooser) value(d rules.DataType) rules.Range {
	switch d {
	case rules.L4Proto.Type():
		return rules.RangeOf(rules.Proto(c.number(1)))
	case rules.NFProto.Type():
		return rules.RangeOf(pick(c, rules.IPv4, rules.IPv6))
	case rules.SocketTransparent.Type():
		return rules.RangeOf(c.one(2))
	case rules.FibSaddr.Route().Type():
		return rules.RangeOf(pick(c, rules.Missing, rules.Exists))
	case rules.TCPFlags.Type():
		return rules.RangeOf(rules.TCPFlag(c.number(1)))
	case rules.TCPDport.Type():
		return rules.RangeOf(rules.Port(c.number(2)))
	case rules.CTZone.Type():
		return rules.RangeOf(rules.Zone(c.number(2)))
	case rules.IIfName.Type():
		return rules.RangeOf(rules.IfName(pick(c, randomNames...)))
	case rules.CTStates.Type():
		return rules.RangeOf(pick(c, rules.CTEstablished, rules.CTNew, rules.CTInvalid|rules.CTRelated, rules.CTUntracked))
	case rules.FibDaddr.Type().Type():
		return rules.RangeOf(pick(c, rules.Local, rules.Unicast, rules.Broadcast, rules.Multicast))
	case rules.IIf.Type():
		return rules.RangeOf(rules.IfIndex(c.number(4) & math.MaxInt32))
	case rules.SocketCgroup(1).Type():
		return rules.RangeOf(rules.CgroupID(c.number(8)))
	case rules.IPDaddr.Type(), rules.IP6Daddr.Type():
		a := c.addr(d)
		return rules.RangeOf(netip.PrefixFrom(a, a.BitLen()))
	}
	if isRawType(d) {
		b := binary.BigEndian.AppendUint64(nil, c.number(d.Len()))
		return rules.RangeOf(rules.Raw(b[8-d.Len():]))
	}
	return rules.RangeOf(rules.Mark(c.number(4)))
}

func isRawType(d rules.DataType) bool {
	return d >= rules.IhRaw(0, 1).Type() && d <= rules.IhRaw(0, 8).Type()
}

func (c *chooser) addr(d rules.DataType) netip.Addr {
	if d == rules.IPDaddr.Type() {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(c.number(4)))))
	}
	b := binary.BigEndian.AppendUint64(nil, c.number(8))
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, c.number(8))))
}

// span is a range of the type, where it has any.
func (c *chooser) span(d rules.DataType) rules.Range {
	a := c.value(d)
	switch d {
	case rules.IPDaddr.Type(), rules.IP6Daddr.Type():
		if c.one(2) {
			addr := c.addr(d)
			return rules.RangeOf(netip.PrefixFrom(addr, c.n(addr.BitLen()+1)).Masked())
		}
	case rules.IIfName.Type():
		return rules.RangeOf(rules.IfName(pick(c, "a*", "abcdefghijklmn*", "eth1*", "veth*")))
	case rules.NFProto.Type(), rules.SocketTransparent.Type(), rules.FibSaddr.Route().Type(), rules.CTStates.Type(), rules.TCPFlags.Type(), rules.FibDaddr.Type().Type(), rules.SocketCgroup(1).Type():
		return a
	}
	b := c.value(d)
	return rules.Range{Lo: min(a.Lo, b.Lo), Hi: max(a.Hi, b.Hi)}
}

func (c *chooser) verdict(chains []string) rules.Verdict {
	switch v := c.n(6); {
	case v == 0:
		return rules.Accept()
	case v == 1:
		return rules.Drop()
	case v == 2:
		return rules.Return()
	case v == 3 && len(chains) > 0:
		return rules.Goto(pick(c, chains...))
	case v > 3 && len(chains) > 0:
		return rules.Jump(pick(c, chains...))
	}
	return rules.Verdict{Kind: rules.ContinueKind}
}

func (c *chooser) comment() string {
	return pick(c, "", "", "", "why it is there", `back\slash é 100% $x #5`, "it's; {odd}")
}

// elements are some of a set's; most are single.
func (c *chooser) elements(key []rules.DataType, interval, verdicts bool, most int, chains []string) []rules.Element {
	var out []rules.Element
	wild := c.one(2)
	for range c.n(most + 1) {
		var e rules.Element
		for _, d := range key {
			if interval && (c.one(3) || d == rules.IIfName.Type() && len(key) == 1) && (d != rules.IIfName.Type() || wild) {
				e.Key = append(e.Key, c.span(d))
			} else {
				e.Key = append(e.Key, c.value(d))
			}
		}
		if verdicts {
			e.Verdict = c.verdict(chains)
		}
		out = append(out, e)
	}
	return out
}

func (c *chooser) set(i int, chains []string) *rules.Set {
	s := &rules.Set{Name: fmt.Sprintf("s%d", i), Interval: c.one(2), Verdicts: c.one(3), Counters: c.one(4)}
	if !s.Verdicts && !s.Counters && c.one(6) {
		s.Quota = 1 + c.number(4)
	}
	types := setTypes()
	if c.loading {
		types = slices.DeleteFunc(types, func(d rules.DataType) bool { return d == rules.SocketCgroup(1).Type() })
	}
	for range 1 + c.n(3)*c.n(2) {
		s.Key = append(s.Key, pick(c, types...))
	}
	if !s.Verdicts && c.one(3) {
		s.Live = true
		s.Dynamic, s.Expires = !s.Interval && c.one(2), c.one(2)
		if s.Expires && c.one(2) {
			s.Timeout = time.Duration(1+c.n(100)) * time.Hour
			s.Sweep = time.Duration(c.n(3)) * time.Minute
		}
	}
	s.Elements = c.elements(s.Key, s.Interval, s.Verdicts, 6, chains)
	for i := range s.Elements {
		s.Elements[i].Comment = c.comment()
		if s.Expires && c.one(2) {
			s.Elements[i].Timeout = time.Duration(1+c.n(90)) * 61 * time.Minute
		}
	}
	if !s.Interval && c.one(3) || s.Dynamic {
		s.Size = uint32(len(s.Elements) + 1 + c.n(9))
	}
	return s
}

func (c *chooser) selector() rules.Selector {
	switch s := pick(c, kernelSelectors()...); {
	case fibs[s].result != 0 && c.one(2):
		return rules.Key[rules.AddrType](s).By(rules.FibFlag(pick[uint32](c, unix.NFTA_FIB_F_MARK, unix.NFTA_FIB_F_IIF, unix.NFTA_FIB_F_MARK|unix.NFTA_FIB_F_IIF))).Selector()
	case isRaw(s):
		return c.raw(s)
	case s != socketCgroup:
		return s
	case c.loading: // nft wants a path, and reads the id that it has now
		return rules.MetaMark.Selector()
	default:
		return rules.SocketCgroup(uint8(1 + c.n(255))).Selector()
	}
}

func isRaw(s rules.Selector) bool {
	_, _, raw := s.Raw()
	return raw
}

// raw reads bytes that have no name.
func (c *chooser) raw(s rules.Selector) rules.Selector {
	offset, length := c.n(256), 1+c.n(8)
	if s == rules.IhRaw(0, 1).Selector() {
		return rules.IhRaw(offset, length).Selector()
	}
	return rules.ThRaw(offset, length).Selector()
}

func (c *chooser) match(t *rules.Table) rules.Match {
	m := rules.Match{Negated: c.one(3)}
	if c.one(3) && len(t.Sets) > 0 {
		s := pick(c, t.Sets...)
		for _, d := range s.Key {
			m.Key = append(m.Key, c.reading(d))
		}
		m.Set = s.Name
		if c.one(3) && len(s.Key) == 1 {
			m.Mask = c.value(s.Key[0]).Lo
		}
		return m
	}
	s := c.selector()
	d := s.Type()
	m.Key = []rules.Selector{s}
	if maskable := d == rules.MetaMark.Type() || d == rules.CTStates.Type() || d == rules.TCPFlags.Type() || isRawType(d) || d == rules.IPDaddr.Type() || d == rules.IP6Daddr.Type(); maskable && c.one(3) {
		m.Mask = c.value(d).Lo
		v := []byte(c.value(d).Lo)
		for i := range v {
			v[i] &= m.Mask[i]
		}
		m.Elements = oneRange(rules.Range{Lo: rules.Bits(v), Hi: rules.Bits(v)})
		return m
	}
	m.Elements = c.elements([]rules.DataType{d}, true, false, 4, nil)
	return m
}

// reading is a selector of the type.
func (c *chooser) reading(d rules.DataType) rules.Selector {
	var all []rules.Selector
	for _, s := range kernelSelectors() {
		if s.Type() == d {
			all = append(all, s)
		}
	}
	s := pick(c, all...)
	if s == socketCgroup {
		return rules.SocketCgroup(7).Selector()
	}
	return s
}

func (c *chooser) vmap(t *rules.Table, chains []string) rules.VMap {
	if c.one(2) {
		for _, s := range t.Sets {
			if s.Verdicts {
				v := rules.VMap{Map: s.Name}
				for _, d := range s.Key {
					v.Key = append(v.Key, c.reading(d))
				}
				return v
			}
		}
	}
	s := c.selector()
	return rules.VMap{Key: []rules.Selector{s}, Elements: c.elements([]rules.DataType{s.Type()}, true, true, 4, chains)}
}

// dynset adds to a dynamic set of the table, where there is one.
func (c *chooser) dynset(t *rules.Table) rules.Node {
	for _, s := range t.Sets {
		if !s.Dynamic {
			continue
		}
		n := rules.Dynset{Update: c.one(2), Set: s.Name}
		if s.Expires && c.one(2) {
			n.Timeout = time.Duration(c.n(99)) * time.Second
		}
		for _, d := range s.Key {
			n.Key = append(n.Key, c.reading(d))
		}
		return n
	}
	return rules.Log{}
}

func (c *chooser) statement(t *rules.Table) rules.Node {
	mark := func() rules.Mark { return rules.Mark(c.number(4)) }
	switch c.n(13) {
	case 10:
		return rules.Log{Group: uint16(c.number(2)), Snaplen: uint32(c.number(4))}
	case 11, 12:
		return c.dynset(t)
	case 0:
		return rules.NoTrack{}
	case 1:
		return rules.MetaMark.SetMasked(mark(), mark())
	case 2:
		return rules.CTMark.SetMasked(mark(), mark())
	case 3:
		if c.one(3) {
			return rules.CTOriginalZone.Set(rules.Zone(c.number(2)))
		}
		return rules.CTZone.Set(rules.Zone(c.number(2)))
	case 4:
		return pick(c, rules.MetaMark, rules.CTMark).SetFromMasked(pick(c, rules.MetaMark, rules.CTMark, rules.SocketMark), mark())
	case 5:
		p := rules.TProxy{Family: pick(c, 0, rules.IPv4, rules.IPv6), Port: rules.Port(c.n(9))}
		if p.Family != 0 && c.one(2) {
			d := map[rules.Family]rules.DataType{rules.IPv4: rules.IPDaddr.Type(), rules.IPv6: rules.IP6Daddr.Type()}[p.Family]
			p.Addr = rules.Bits(c.addr(d).AsSlice())
		}
		return p
	case 6:
		r := c.span(rules.TCPDport.Type())
		return rules.Redirect{Ports: &r}
	case 7:
		return rules.SNAT{To: c.addr(pick(c, rules.IPDaddr.Type(), rules.IP6Daddr.Type()))}
	case 8:
		return rules.DNAT{To: c.addr(pick(c, rules.IPDaddr.Type(), rules.IP6Daddr.Type())), Port: pick(c, rules.Port(0), 53, 8600)}
	}
	return rules.Counter{}
}

func (c *chooser) rule(t *rules.Table, base *rules.Base, chains []string) (rules.Rule, bool) {
	r := rules.Rule{Reason: c.comment()}
	switch c.n(6) {
	case 1, 2:
		r.Nodes = append(r.Nodes, rules.L4Proto.Is(pick(c, rules.TCP, rules.UDP)))
	case 3:
		r.Nodes = append(r.Nodes, rules.L4Proto.In(rules.TCP, rules.UDP))
	case 4:
		r.Nodes = append(r.Nodes, rules.NFProto.Is(pick(c, rules.IPv4, rules.IPv6)))
	}
	for range c.n(4) {
		r.Nodes = append(r.Nodes, c.match(t))
	}
	for range c.n(3) {
		r.Nodes = append(r.Nodes, c.statement(t))
	}
	switch c.n(4) {
	case 1:
		r.Nodes = append(r.Nodes, c.verdict(chains))
	case 2:
		r.Nodes = append(r.Nodes, c.vmap(t, chains))
	case 3:
		r.Nodes = append(r.Nodes, rules.Redirect{})
	}
	// Most of what is made at random is refused for something in it. Only what
	// passes stays.
	probe := rules.Table{Name: t.Name, Sets: t.Sets, Chains: append(regular(chains), &rules.Chain{Name: "probe", Base: base, Rules: []rules.Rule{r}})}
	return r, rules.State{Table: &probe}.Check() == nil
}

func regular(names []string) []*rules.Chain {
	var out []*rules.Chain
	for _, n := range names {
		out = append(out, &rules.Chain{Name: n})
	}
	return out
}

// randomTable is a table whose parts Check takes.
func (c *chooser) randomTable() *rules.Table {
	t := &rules.Table{Name: "weir"}
	later := []string{"first", "second"}[:c.n(3)]
	for i := range c.n(5) {
		s := c.set(i, later)
		if (rules.State{Table: &rules.Table{Name: "weir", Sets: []*rules.Set{s}, Chains: regular(later)}}).Check() == nil {
			t.Sets = append(t.Sets, s)
		}
	}
	for i := range 1 + c.n(4) {
		base := &rules.Base{Type: rules.FilterType, Drop: c.one(4)}
		base.Hook = pick(c, rules.Prerouting, rules.Prerouting, rules.Input, rules.Forward, rules.Output, rules.Postrouting)
		base.Priority = pick(c, rules.PriorityRaw, rules.PriorityMangle, rules.PriorityDstNAT, 0, 100, -2147483648, 2147483647)
		switch c.n(5) {
		case 1:
			base.Type, base.Hook, base.Priority = rules.NATType, pick(c, rules.Prerouting, rules.Output, rules.Postrouting), rules.PriorityDstNAT
		case 2:
			base.Type, base.Hook = rules.RouteType, rules.Output
		case 3:
			base.Hook, base.Devices = rules.Ingress, []string{"lo"}
		}
		chain := &rules.Chain{Name: fmt.Sprintf("base%d", i), Base: base}
		for range c.n(12) {
			if r, ok := c.rule(t, base, later); ok {
				chain.Rules = append(chain.Rules, r)
			}
		}
		t.Chains = append(t.Chains, chain)
	}
	for i, name := range later {
		chain := &rules.Chain{Name: name}
		for range c.n(4) {
			// A rule that any base chain may reach: matches and verdicts alone.
			if r, ok := c.rule(t, &rules.Base{Type: rules.FilterType, Hook: rules.Ingress, Devices: []string{"lo"}}, later[i+1:]); ok {
				chain.Rules = append(chain.Rules, r)
			}
		}
		t.Chains = append(t.Chains, chain)
	}
	return t
}
