// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"strings"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestPlace: weir's policy rule comes before every one of others that may catch what has
// its mark, and stays where it is while it does.
func TestPlace(t *testing.T) {
	const v4, v6 = rules.IPv4, rules.IPv6
	local := PolicyRule{Family: v4, Table: rules.LocalTable, Text: "from all lookup 255"}
	fromPod := func(f rules.Family, priority uint32) PolicyRule {
		return PolicyRule{Family: f, Priority: priority, Narrow: true, Table: 200, Text: "from 10.0.0.5 lookup 200"}
	}
	all := func(priority, table uint32) PolicyRule {
		return PolicyRule{Family: v4, Priority: priority, Table: table, Text: "from all"}
	}
	marked := func(priority uint32, mark, mask rules.Mark) PolicyRule {
		return PolicyRule{Family: v4, Priority: priority, Mark: mark, Mask: mask, Table: 7, Text: "marked"}
	}
	own := func(f rules.Family, priority uint32) PolicyRule {
		return PolicyRule{Family: f, Priority: priority, Mark: 0x539, Mask: 0xfff, Table: 133, Own: true}
	}
	not := func(l PolicyRule) PolicyRule {
		l.Not = true
		return l
	}
	for _, tt := range []struct {
		why  string
		have []PolicyRule
		want uint32
		note string
	}{
		{"alone it comes before the main table's", []PolicyRule{local, all(32766, 254), all(32767, 253)}, 32765, ""},
		{"a plugin's rule for the pod's address is passed", []PolicyRule{local, fromPod(v4, 32765), all(32766, 254)}, 32764, "at 32765 (from 10.0.0.5 lookup 200)"},
		{"of several the first one counts", []PolicyRule{local, all(5270, 52), fromPod(v4, 32765)}, 5269, "5270"},
		{"one of IPv6 moves both", []PolicyRule{local, fromPod(v6, 1000)}, 999, "1000"},
		{"the main table's rule may stand elsewhere", []PolicyRule{local, all(100, 254)}, 99, "100"},
		{"so may the local table's, which delivers here too", []PolicyRule{all(100, rules.LocalTable)}, 32765, ""},
		{"another mark is not ours", []PolicyRule{local, marked(10, 0x200, 0xf00)}, 32765, ""},
		{"bits that we leave alone may be set", []PolicyRule{local, marked(10, 0x80000, 0xff0000)}, 9, "10"},
		{"some bits of our mark catch it", []PolicyRule{local, marked(10, 0x9, 0xf)}, 9, "10"},
		{"everything but another's mark is ours too", []PolicyRule{local, not(marked(10, 0xca6c, ^rules.Mark(0)))}, 9, "10"},
		{"everything but ours is not", []PolicyRule{local, not(marked(10, 0x539, 0xfff))}, 32765, ""},
		{"a rule that does something else may catch", []PolicyRule{local, {Family: v4, Priority: 10, Text: "from all"}}, 9, "10"},
		{"a rule for our own table delivers as ours does", []PolicyRule{local, all(10, 133)}, 32765, ""},
		{"before 1 there is 0, after the local table's", []PolicyRule{local, all(1, 200)}, 0, "at 1"},
		{"before 0 there is none", []PolicyRule{local, all(0, 200)}, 0, "no place is free before the policy rule of others at 0"},

		{"where it stands it stays, though what it avoided is gone", []PolicyRule{local, own(v4, 5269), own(v6, 5269)}, 5269, ""},
		{"of one priority the first listed comes first", []PolicyRule{local, own(v4, 300), all(300, 200), own(v6, 300)}, 300, "at 300"},
		{"what came in front since is passed", []PolicyRule{local, all(100, 200), own(v4, 5269), own(v6, 5269)}, 99, "100"},
		{"what came at its place before it too", []PolicyRule{local, all(300, 200), own(v4, 300), own(v6, 300)}, 299, "300"},
		{"one family's is gone", []PolicyRule{local, own(v4, 5269)}, 5269, ""},
		{"which another's now would be before", []PolicyRule{local, own(v4, 5269), fromPod(v6, 5269)}, 5268, "5269"},
		{"the two stand apart", []PolicyRule{local, own(v4, 5269), own(v6, 300)}, 32765, ""},
	} {
		c := Config{Mode: ModeSidecar, IPv6: "enabled", Proxy: Proxy{UIDs: []string{"1337"}}, Inbound: Inbound{Via: "tproxy"}}
		state, notes, err := State(c, Environment{IPv6: true, LoopbackIPv6: true, PolicyRules: tt.have})
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, n := range notes {
			if n.Key == "routing.priority" {
				said = n.Text
			}
		}
		if len(state.PolicyRules) != 2 || state.PolicyRules[0].Priority != tt.want || state.PolicyRules[1].Priority != tt.want {
			t.Errorf("%s: %v, want priority %d", tt.why, state.Routing(), tt.want)
		}
		if (said == "") != (tt.note == "") || !strings.Contains(said, tt.note) {
			t.Errorf("%s: the note is %q, want %q", tt.why, said, tt.note)
		}
	}
}

// TestAsStanding: for a comparison with what is live, what came in front is not drift.
func TestAsStanding(t *testing.T) {
	c := Config{Mode: ModeAmbientPod}
	front := PolicyRule{Family: rules.IPv4, Priority: 10, Table: 7, Text: "from all"}
	own := PolicyRule{Family: rules.IPv4, Priority: 500, Mark: 0x111, Mask: 0xfff, Table: 100, Own: true}
	for _, tt := range []struct {
		have []PolicyRule
		want uint32
	}{
		{[]PolicyRule{front, own}, 500},
		{[]PolicyRule{front}, 9},
		{nil, 32764},
	} {
		state, _, err := State(c, Environment{PolicyRules: tt.have}.AsStanding())
		if err != nil || len(state.PolicyRules) != 1 || state.PolicyRules[0].Priority != tt.want {
			t.Errorf("%v: %v %v, want priority %d", tt.have, state.Routing(), err, tt.want)
		}
	}
}

// TestPlaceIsForAPolicyRule: what has none asks for no place.
func TestPlaceIsForAPolicyRule(t *testing.T) {
	front := []PolicyRule{{Family: rules.IPv4, Priority: 10, Table: 7, Text: "from all"}}
	sidecar := Config{Mode: ModeSidecar, Proxy: Proxy{UIDs: []string{"1337"}}}
	numbered, unrouted := sidecar, sidecar
	numbered.Inbound.Via, numbered.Routing.Priority = "tproxy", "32765"
	unrouted.Inbound.Via, unrouted.Routing.Table = "tproxy", "none"
	for why, c := range map[string]Config{"redirect": sidecar, "a number": numbered, "no table": unrouted} {
		state, notes, err := State(c, Environment{PolicyRules: front})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range notes {
			if n.Key == "routing.priority" {
				t.Errorf("%s: %s", why, n)
			}
		}
		for _, l := range state.PolicyRules {
			if l.Priority != 32765 {
				t.Errorf("%s: %s", why, l)
			}
		}
	}
	if sidecar.Places() || numbered.Places() || !(Config{Mode: ModeAmbientPod}).Places() || !unrouted.Places() {
		t.Error("which configurations ask for a place is told wrong")
	}
}
