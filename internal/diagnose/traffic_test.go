// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"testing"

	"github.com/weir-mesh/weir/sim"

	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim/survey"
)

// TestTrafficTellsWhatLandsElsewhere: rules in force that are not those which
// explain goes by are found out.
func TestTrafficTellsWhatLandsElsewhere(t *testing.T) {
	state, _, err := modes.State(modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}}, modes.Environment{IPv6: true, LoopbackIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	want := explain.Rules{State: state, Listeners: map[rules.Port]string{15001: "outbound", 15006: "inbound", 15008: "tunnel"}}
	space, err := survey.New(explain.Pod(), state)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{state: state, host: space.Host, evaluator: sim.EvaluatorOf(state, space.Host), names: want.Listeners}
	if s.rows, err = want.Classes(explain.Pod()); err != nil {
		t.Fatal(err)
	}
	bare := sim.NewEvaluator(space.Host)
	defer s.close()
	if err := inOrder(t.Context(), s.settle, s.join, s.apply, s.listen, s.ready); err != nil {
		t.Skipf("no scratch namespaces with other users: %v", err)
	}
	for _, tt := range []struct {
		why       string
		evaluator *sim.Evaluator
		want      Status
	}{
		{"the rules in force", s.evaluator, Passed},
		{"no rules at all", bare, Failed},
	} {
		s.evaluator = tt.evaluator
		checks, err := s.compare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if c.Status != tt.want {
				t.Errorf("%s: found %+v", tt.why, c)
			}
		}
	}
}
