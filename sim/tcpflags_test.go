// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestFlags: what a packet's turn says of its flags is known, and what it leaves
// open is not guessed.
func TestFlags(t *testing.T) {
	bare := rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK)
	other := bare
	other.Negated = true
	for _, tt := range []struct {
		why   string
		turn  Turn
		state rules.CTState
		test  rules.Node
		want  FateKind // Dropped where the test holds
	}{
		{"the first packet is a SYN alone", Opens, 0, bare, Dropped},
		{"the first packet of a connection that is new is one", Opens, rules.CTNew, bare, Dropped},
		{"the first packet of an expected connection is one", Opens, rules.CTRelated, bare, Dropped},
		{"the first packet is one whether it is tracked or not", Opens, rules.CTUntracked, bare, Dropped},
		{"the first packet has no other flags", Opens, 0, other, Untouched},
		{"the answer acknowledges", Answers, 0, bare, Untouched},
		{"the answer is not a SYN alone", Answers, 0, other, Dropped},
		{"the answer is a SYN", Answers, 0, rules.TCPFlags.AnyOf(rules.SYN), Dropped},
		{"what follows is not a SYN", Continues, 0, bare, Untouched},
		{"what follows acknowledges", Continues, 0, rules.TCPFlags.Masked(rules.ACK, rules.SYN|rules.ACK), Dropped},
		{"what follows may close or not", Continues, 0, rules.TCPFlags.AnyOf(rules.FIN), Unknown},
		{"what closes or acknowledges may close or not, and acknowledges", Continues, 0, rules.TCPFlags.AnyOf(rules.FIN | rules.ACK), Dropped},
		{"a packet of an established connection is not a SYN alone", Opens, rules.CTEstablished, bare, Untouched},
		{"an invalid packet has any flags", Opens, rules.CTInvalid, bare, Unknown},
		{"a SYN may speak of congestion", Opens, 0, rules.TCPFlags.Is(rules.SYN), Unknown},
		{"a SYN with an ACK is none that speaks of congestion or not", Opens, 0, rules.TCPFlags.Is(rules.SYN | rules.ACK), Untouched},
		{"a list may hold a SYN however it speaks of congestion", Opens, 0, rules.TCPFlags.In(rules.SYN, rules.SYN|rules.ECN, rules.SYN|rules.CWR, rules.SYN|rules.ECN|rules.CWR), Dropped},
		{"a list may hold but one of them", Opens, 0, rules.TCPFlags.In(rules.SYN, rules.SYN|rules.ECN, rules.SYN|rules.CWR), Unknown},
		{"a map that decides alike decides", Opens, 0, rules.VMap{Key: []rules.Selector{rules.Selector(rules.TCPFlags)}, Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.SYN)}, Verdict: rules.Drop()}, {Key: []rules.Range{rules.RangeOf(rules.SYN | rules.ECN)}, Verdict: rules.Drop()},
			{Key: []rules.Range{rules.RangeOf(rules.SYN | rules.CWR)}, Verdict: rules.Drop()}, {Key: []rules.Range{rules.RangeOf(rules.SYN | rules.ECN | rules.CWR)}, Verdict: rules.Drop()}}}, Dropped},
		{"a map that does not decide alike does not", Opens, 0, rules.VMap{Key: []rules.Selector{rules.Selector(rules.TCPFlags)}, Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.SYN)}, Verdict: rules.Drop()}, {Key: []rules.Range{rules.RangeOf(rules.SYN | rules.ECN)}, Verdict: rules.Return()}}}, Unknown},
		{"a part of a key is looked at for itself", Opens, 0, rules.Match{Key: []rules.Selector{rules.Selector(rules.TCPDport), rules.Selector(rules.TCPFlags)}, Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.Port(443)), rules.RangeOf(rules.SYN)}}}}, Unknown},
		{"where another part of a key decides, the flags do not", Opens, 0, rules.Match{Key: []rules.Selector{rules.Selector(rules.TCPDport), rules.Selector(rules.TCPFlags)}, Elements: []rules.Element{
			{Key: []rules.Range{rules.RangeOf(rules.Port(80)), rules.RangeOf(rules.SYN)}}}}, Untouched},
	} {
		chain := on(rules.FilterType, rules.Output, 0, "c", nodes(tt.test, rules.Drop()))
		p := Packet{Proto: rules.TCP, Src: addrPort("192.0.2.2:40000"), Dst: addrPort("203.0.113.7:443"), Socket: &Socket{}, Turn: tt.turn, State: tt.state}
		f := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{chain}}}, podHost()).Evaluate(p, nil).Fate
		if f.Kind != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.why, f.Kind, f.Why, tt.want)
		}
	}
	p := Packet{Proto: rules.UDP, Dst: addrPort("203.0.113.7:443"), Socket: &Socket{}}
	chain := on(rules.FilterType, rules.Output, 0, "c", nodes(other, rules.Drop()))
	if f := EvaluatorOf(rules.State{Table: &rules.Table{Name: "t", Chains: []*rules.Chain{chain}}}, podHost()).Evaluate(p, nil).Fate; f.Kind != Untouched {
		t.Errorf("a datagram has no flags, and its fate is %+v", f)
	}
}
