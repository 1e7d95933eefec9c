// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestZonesOfADirection: what is sent in a zone is told apart from what is sent in
// another, and answers are found where the connection's reply zone has them.
func TestZonesOfADirection(t *testing.T) {
	const proxy, app rules.UID = 1337, 1000
	resolver, own := addrPort("203.0.113.7:53"), addrPort("192.0.2.2:40000")
	query := func(by rules.UID) Packet {
		return Packet{Proto: rules.UDP, Src: own, Dst: resolver, Socket: &Socket{Proto: rules.UDP, UID: by}}
	}
	answer := Packet{Proto: rules.UDP, Src: resolver, Dst: own, In: "eth0", Turn: Answers}
	original, both := func(z rules.Zone) rules.Node { return rules.CTOriginalZone.Set(z) }, func(z rules.Zone) rules.Node { return rules.CTZone.Set(z) }
	for _, tt := range []struct {
		why         string
		proxy, app  func(rules.Zone) rules.Node
		before      []Packet
		packet      Packet
		kind        FateKind
		zone, reply rules.Zone
	}{
		{"a query in a zone of both directions", original, both, nil, query(app), Redirected, 2, 2},
		{"a query in a zone of one direction", original, original, nil, query(app), Redirected, 2, 0},
		{"an answer is found in zone 0 where only what was sent has a zone", original, both, []Packet{query(proxy)}, answer, Untouched, 1, 0},
		{"an answer is not found where the reply has the zone too", both, both, []Packet{query(proxy)}, answer, Untouched, 0, 0},
		{"the same addresses and ports are two connections, the proxy's first", original, both, []Packet{query(proxy)}, query(app), Redirected, 2, 2},
		{"the same addresses and ports are two connections, the application's first", original, both, []Packet{query(app)}, query(proxy), Untouched, 1, 0},
		{"what was not asked for is not a query's connection in a zone of both directions", original, both, []Packet{answer}, query(app), Redirected, 2, 2},
		{"what was not asked for makes a query in a zone of one direction its answer", original, original, []Packet{answer}, query(app), Untouched, 0, 0},
	} {
		e := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{
			on(rules.FilterType, rules.Output, rules.PriorityRaw, "raw", nodes(rules.UDPDport.Is(53), rules.SkUID.Is(proxy), tt.proxy(1)), nodes(rules.UDPDport.Is(53), tt.app(2))),
			on(rules.NATType, rules.Output, rules.PriorityDstNAT, "nat", nodes(rules.SkUID.Is(proxy), rules.Return()), nodes(rules.UDPDport.Is(53), rules.RedirectTo(15053))),
		}}}, podHost())
		var known Tracker
		for _, p := range tt.before {
			e.Evaluate(p, &known)
		}
		f := e.Evaluate(tt.packet, &known).Fate
		if f.Kind != tt.kind || f.Zone != tt.zone || f.ReplyZone != tt.reply {
			t.Errorf("%s: %s in zone %d, reply %d; want %s, %d, %d", tt.why, f.Kind, f.Zone, f.ReplyZone, tt.kind, tt.zone, tt.reply)
		}
	}
}

// TestAnEntryOfTheOtherDirection: two entries with the same tuple and zone are told
// apart by the zones that their directions have.
func TestAnEntryOfTheOtherDirection(t *testing.T) {
	var known Tracker
	a, b := addrPort("192.0.2.2:40000"), addrPort("203.0.113.7:53")
	sent := &Connection{Proto: rules.UDP, Src: a, Dst: b, From: a, To: b, Zone: 2}
	unsolicited := &Connection{Proto: rules.UDP, Src: b, Dst: a, From: b, To: a}
	known.confirm(sent)
	known.confirm(unsolicited)
	back := &Packet{Proto: rules.UDP, Src: b, Dst: a}
	if d, _ := known.find(back, zones{}); d.Connection != unsolicited {
		t.Errorf("of two entries for a packet the newest is taken, and it was %+v", d)
	}
	if d, _ := known.find(back, zones{original: 2}); d.Connection != sent || !d.reply {
		t.Errorf("a template whose original zone is 2 finds %+v", d)
	}
}
