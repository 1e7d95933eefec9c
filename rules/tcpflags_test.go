package rules

import "testing"

// TestFlags: what a packet's turn says of its flags is known, and what it leaves
// open is not guessed.
func TestFlags(t *testing.T) {
	bare := TCPFlags.Masked(SYN, FIN|SYN|RST|ACK)
	other := bare.negated()
	for _, tt := range []struct {
		why   string
		turn  Turn
		state CTState
		test  Node
		want  FateKind // Dropped where the test holds
	}{
		{"the first packet is a SYN alone", Opens, 0, bare, Dropped},
		{"the first packet of a connection that is new is one", Opens, New, bare, Dropped},
		{"the first packet of an expected connection is one", Opens, Related, bare, Dropped},
		{"the first packet is one whether it is tracked or not", Opens, Untracked, bare, Dropped},
		{"the first packet has no other flags", Opens, 0, other, Untouched},
		{"the answer acknowledges", Answers, 0, bare, Untouched},
		{"the answer is no SYN alone", Answers, 0, other, Dropped},
		{"the answer is a SYN", Answers, 0, TCPFlags.AnyOf(SYN), Dropped},
		{"what follows is no SYN", Continues, 0, bare, Untouched},
		{"what follows acknowledges", Continues, 0, TCPFlags.Masked(ACK, SYN|ACK), Dropped},
		{"what follows may close or not", Continues, 0, TCPFlags.AnyOf(FIN), Unknown},
		{"what closes or acknowledges may close or not, and acknowledges", Continues, 0, TCPFlags.AnyOf(FIN | ACK), Dropped},
		{"a packet of an established connection is no SYN alone", Opens, Established, bare, Untouched},
		{"an invalid packet has any flags", Opens, Invalid, bare, Unknown},
		{"a SYN may speak of congestion", Opens, 0, TCPFlags.Is(SYN), Unknown},
		{"a SYN with an ACK is none that speaks of congestion or not", Opens, 0, TCPFlags.Is(SYN | ACK), Untouched},
		{"a list may hold a SYN however it speaks of congestion", Opens, 0, TCPFlags.In(SYN, SYN|ECN, SYN|CWR, SYN|ECN|CWR), Dropped},
		{"a list may hold but one of them", Opens, 0, TCPFlags.In(SYN, SYN|ECN, SYN|CWR), Unknown},
		{"a map that decides alike decides", Opens, 0, VMap{Key: []Selector{Selector(TCPFlags)}, Elements: []Element{
			{Key: []Range{Span(SYN)}, Verdict: Drop()}, {Key: []Range{Span(SYN | ECN)}, Verdict: Drop()},
			{Key: []Range{Span(SYN | CWR)}, Verdict: Drop()}, {Key: []Range{Span(SYN | ECN | CWR)}, Verdict: Drop()}}}, Dropped},
		{"a map that does not decide alike does not", Opens, 0, VMap{Key: []Selector{Selector(TCPFlags)}, Elements: []Element{
			{Key: []Range{Span(SYN)}, Verdict: Drop()}, {Key: []Range{Span(SYN | ECN)}, Verdict: Return()}}}, Unknown},
		{"a part of a key is looked at for itself", Opens, 0, Match{Key: []Selector{Selector(TCPDport), Selector(TCPFlags)}, Elements: []Element{
			{Key: []Range{Span(Port(443)), Span(SYN)}}}}, Unknown},
		{"where another part of a key decides, the flags do not", Opens, 0, Match{Key: []Selector{Selector(TCPDport), Selector(TCPFlags)}, Elements: []Element{
			{Key: []Range{Span(Port(80)), Span(SYN)}}}}, Untouched},
	} {
		chain := on(FilterType, Output, 0, "c", nodes(tt.test, Drop()))
		p := Packet{Proto: TCP, Src: addrPort("192.0.2.2:40000"), Dst: addrPort("203.0.113.7:443"), Socket: &Socket{}, Turn: tt.turn, State: tt.state}
		f := EvaluatorOf(State{Table: &Table{Name: "t", Chains: []*Chain{chain}}}, podHost()).Evaluate(p, nil).Fate
		if f.Kind != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.why, f.Kind, f.Why, tt.want)
		}
	}
	p := Packet{Proto: UDP, Dst: addrPort("203.0.113.7:443"), Socket: &Socket{}}
	chain := on(FilterType, Output, 0, "c", nodes(other, Drop()))
	if f := EvaluatorOf(State{Table: &Table{Name: "t", Chains: []*Chain{chain}}}, podHost()).Evaluate(p, nil).Fate; f.Kind != Untouched {
		t.Errorf("a datagram has no flags, and its fate is %+v", f)
	}
}
