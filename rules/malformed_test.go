// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

func ruleState(nodes ...rules.Node) rules.State {
	return rules.State{Table: &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: "c", Rules: []rules.Rule{{Nodes: nodes}}}}}}
}

// evaluated has packets meet the rules of every chain at every hook.
func evaluated(s rules.State) {
	host := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}})
	for h := rules.Prerouting; h <= rules.Ingress; h++ {
		for _, typ := range []rules.ChainType{rules.FilterType, rules.NATType, rules.RouteType} {
			at := s
			if s.Table != nil {
				t := *s.Table
				t.Chains = nil
				for _, c := range s.Table.Chains {
					based := *c
					based.Base = &rules.Base{Type: typ, Hook: h, Devices: []string{"eth0"}}
					t.Chains = append(t.Chains, &based)
				}
				at.Table = &t
			}
			e := sim.EvaluatorOf(at, host)
			for _, proto := range []rules.Proto{rules.TCP, rules.ICMP} {
				e.Evaluate(sim.Packet{Proto: proto, Dst: netip.MustParseAddrPort("192.0.2.2:80"), Src: netip.MustParseAddrPort("192.0.2.7:80"), In: "eth0"}, nil)
				e.Evaluate(sim.Packet{Proto: proto, Dst: netip.MustParseAddrPort("192.0.2.7:80"), Socket: &sim.Socket{}}, nil)
			}
			e.Evaluate(sim.Packet{}, nil)
		}
	}
}

// TestMalformedStatesDoNotPanic: Check is to say what is wrong with a state, and
// may be called after it was printed.
func TestMalformedStatesDoNotPanic(t *testing.T) {
	empty := rules.Element{}
	odd := rules.Element{Key: []rules.Range{{Lo: "x", Hi: ""}}}
	for _, s := range []rules.State{
		ruleState(rules.Match{}),
		ruleState(rules.Match{Elements: []rules.Element{empty}}),
		ruleState(rules.Match{Elements: []rules.Element{odd, odd}}),
		ruleState(rules.Match{Key: selectors(rules.L4Proto.Selector()), Elements: []rules.Element{empty}}),
		ruleState(rules.Match{Key: selectors(rules.L4Proto.Selector()), Elements: []rules.Element{odd, empty}}),
		ruleState(rules.Match{Key: selectors(rules.IPDaddr.Selector()), Mask: "\xff\x00\x00\x00", Elements: []rules.Element{odd}}),
		ruleState(rules.Match{Key: selectors(rules.OIfName.Selector()), Elements: []rules.Element{odd, empty}}),
		ruleState(rules.Match{Key: selectors(999, rules.Saddr.Selector()), Mask: "x", Elements: []rules.Element{odd}}),
		ruleState(rules.VMap{}, rules.VMap{Elements: []rules.Element{odd, odd, empty}}, rules.Verdict{Kind: 99}, rules.Redirect{Ports: &rules.Range{}}, rules.TProxy{Addr: "x", Family: rules.IPv6}, rules.SNAT{}, rules.Assign{}),
		{Table: &rules.Table{Sets: []*rules.Set{{Elements: []rules.Element{empty, odd}}, {Name: "s", Interval: true, Key: types(rules.TCPDport.Type(), 99), Elements: []rules.Element{empty, odd, empty}}}}},
		{Table: &rules.Table{Chains: []*rules.Chain{{Base: &rules.Base{Hook: 99, Devices: []string{""}}}}}},
		{PolicyRules: make([]rules.PolicyRule, 2), Routes: make([]rules.Route, 2), Addresses: make([]netip.Prefix, 2), Sysctls: make([]rules.Sysctl, 1)},
	} {
		_ = s.String()
		_ = s.Hash()
		if len(s.Compare(s)) > 0 {
			t.Errorf("%s is not equal to itself", s)
		}
		if s.Check() == nil {
			t.Errorf("nothing is found wrong with %s", s)
		}
		evaluated(s)
	}
}
