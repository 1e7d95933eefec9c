// SPDX-License-Identifier: Apache-2.0

package continuity_test

import (
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/rules"
)

func TestDraining(t *testing.T) {
	table := &rules.Table{Name: "weir"}
	uids := rules.SkUID.AddSet(table, "proxy_uids", rules.RangeOf(rules.UID(1337)))
	ports := rules.TCPDport.AddSet(table, "ports", rules.RangeOf(rules.Port(80)))
	base := func(name string, typ rules.ChainType, hook rules.Hook, priority int32) *rules.Chain {
		c := &rules.Chain{Name: name, Base: &rules.Base{Type: typ, Hook: hook, Priority: priority}}
		table.Chains = append(table.Chains, c)
		return c
	}
	regular := func(name string) *rules.Chain {
		c := &rules.Chain{Name: name}
		table.Chains = append(table.Chains, c)
		return c
	}
	raw := base("raw", rules.FilterType, rules.Output, rules.PriorityRaw)
	raw.Add("datagrams", rules.UDPDport.Is(53), rules.CTZone.Set(1))
	raw.Add("a zone of TCP", rules.TCPDport.Is(53), rules.CTZone.Set(1))
	mangle := base("mangle", rules.FilterType, rules.Prerouting, rules.PriorityMangle)
	mangle.Add("to the proxy", rules.Jump("deliver"))
	mangle.Add("remembered", rules.SkUID.InSet(uids), rules.CTMark.SetMasked(1, 1))
	deliver := regular("deliver")
	deliver.Add("new", rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: 15006}, rules.MetaMark.SetMasked(1, 1), rules.Accept())
	deliver.Add("none listens", rules.L4Proto.Is(rules.TCP), rules.Drop())
	nat := base("output", rules.NATType, rules.Output, rules.PriorityDstNAT)
	nat.Add("some", rules.TCPDport.InSet(ports), rules.Goto("outbound"))
	out := regular("outbound")
	out.Add("to the proxy", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	out.Add("again", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))

	if continuity.IsDraining(table) {
		t.Error("a table that captures is said to drain")
	}
	d := continuity.Draining(table)
	if !continuity.IsDraining(d) {
		t.Error("it does not drain")
	}
	text := rules.State{Table: d}.String()
	if err := (rules.State{Table: d}).Check(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	for _, row := range []struct {
		why, text string
		times     int
	}{
		{"nat goes on", "type nat hook output", 1},
		{"what captured is told once", "redirect to :15001", 1},
		{"and by TPROXY", "tproxy to :15006", 1},
		{"and takes no packet", "jump draining", 0},
		{"conntrack goes on", "ct state established", 1},
		{"marks come back", "ct mark set", 1},
		{"with their sets", "set proxy_uids", 1},
		{"what captured looks no set up any more", "set ports", 0},
		{"no packet of a new connection is dropped", " drop", 0},
		{"the zone of TCP stays", "tcp dport 53", 1},
		{"that of datagrams goes", "udp dport 53", 0},
		{"what nat alone jumped to goes", "chain outbound", 0},
	} {
		if n := strings.Count(text, row.text); n != row.times {
			t.Errorf("%s: %q is there %d times, want %d:\n%s", row.why, row.text, n, row.times, text)
		}
	}
}
