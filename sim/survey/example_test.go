// SPDX-License-Identifier: Apache-2.0

package survey_test

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"github.com/weir-mesh/weir/sim/survey"
)

// Which packets does a ruleset drop, of all that there are?
func Example() {
	in := &rules.Chain{Name: "input", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Input, Priority: rules.PriorityFilter}}
	in.Add("the agent is not reached", rules.IIfName.Is("eth0"), rules.TCPDport.Is(9000), rules.Drop())
	state := rules.State{Table: &rules.Table{Name: "firewall", Chains: []*rules.Chain{in}}}
	host := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24")}})

	space, err := survey.New(host, state)
	if err != nil {
		fmt.Println(err)
		return
	}
	evaluator := sim.EvaluatorOf(state, space.Host)
	fate := func(p sim.Packet) (sim.FateKind, bool) { return evaluator.Evaluate(p, nil).Fate.Kind, true }
	dropped := func(k sim.FateKind) bool { return k == sim.Dropped }
	for _, row := range survey.Rows(space, fate, cmp.Compare, dropped) {
		fmt.Printf("%s, %s: %s\n", row.Who, row.Where, row.Outcome)
	}
	// Output:
	// in by eth0, tcp, to this pod, port 9000: dropped
}
