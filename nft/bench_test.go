// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"testing"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
)

// sidecar is about what a sidecar's default configuration asks for, with a list
// of excluded addresses of some length.
func sidecar(excluded int) rules.State {
	t := &rules.Table{Name: "weir"}
	var list []netip.Prefix
	for i := range excluded {
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 20<<24|uint32(i)<<1)))
		list = append(list, netip.PrefixFrom(a, 32))
	}
	users := rules.SkUID.AddSet(t, "proxies", rules.RangeOf(rules.UID(1337)))
	open := rules.TCPDport.AddSet(t, "open_ports", rules.RangeOf(rules.Port(15008)), rules.RangeBetween(rules.Port(15020), rules.Port(15021)))
	exempt := t.AddPrefixSets("excluded", append(list, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32"))...)
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}
	families := []rules.Family{rules.IPv4, rules.IPv6}
	in := &rules.Chain{Name: "prerouting", Base: preroutingNAT}
	out := &rules.Chain{Name: "output", Base: outputNAT}
	add := func(c *rules.Chain, reason string, nodes ...rules.Node) {
		c.Rules = append(c.Rules, t.Expand(rules.Rule{Reason: reason, Nodes: nodes}, families...)...)
	}
	add(in, "these ports are left alone", rules.TCPDport.InSet(open), rules.Counter{}, rules.Return())
	add(in, "what comes in goes to the inbound listener", tcp, rules.Counter{}, rules.RedirectTo(15006))
	add(out, "calls of its own service go through the inbound listener", rules.OIfName.Is("lo"), rules.Daddr.NotIn(loopback...), rules.TCPDport.NotIn(53, 15008), rules.SkUID.InSet(users), rules.Counter{}, rules.RedirectTo(15006))
	add(out, "calls of localhost are left alone", rules.OIfName.Is("lo"), rules.TCPDport.Not(53), rules.Counter{}, rules.Return())
	add(out, "the proxy's own traffic is left alone", rules.SkUID.InSet(users), rules.Counter{}, rules.Return())
	add(out, "names go to the proxy", rules.L4Proto.In(rules.TCP, rules.UDP), rules.ThDport.Is(53), rules.Counter{}, rules.RedirectTo(15053))
	add(out, "localhost is left alone", rules.Daddr.In(loopback...), rules.Counter{}, rules.Return())
	add(out, "excluded addresses are left alone", rules.Daddr.InSet(exempt), rules.Counter{}, rules.Return())
	add(out, "everything else goes to the proxy", tcp, rules.Counter{}, rules.RedirectTo(15001))
	t.Chains = []*rules.Chain{in, out}
	return rules.State{Table: t}
}

func sizes(b *testing.B, run func(*testing.B, rules.State)) {
	for _, excluded := range []int{0, 10000} {
		b.Run(strconv.Itoa(excluded), func(b *testing.B) {
			state := sidecar(excluded).Normal()
			b.ReportAllocs()
			b.ResetTimer()
			run(b, state)
		})
	}
}

func BenchmarkLower(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		for b.Loop() {
			addWhole(&batch{}, s.Table, Tag{})
		}
	})
}

// BenchmarkLift reads what was dumped: the declarations and elements of sets, and
// the expressions of rules.
func BenchmarkLift(b *testing.B) {
	sizes(b, func(b *testing.B, s rules.State) {
		bt := &batch{}
		l := lower(bt, s.Table)
		l.addTable()
		l.addAll(s.Table, nil)
		for b.Loop() {
			k := &fakeKernel{sets: map[string]*rules.Set{}, elements: map[*rules.Set][]element{}}
			for _, ch := range bt.changes {
				a, err := nl.Decode(ch.data)
				if err == nil {
					err = k.take(ch.typ, a)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			k.lifted()
		}
	})
}
