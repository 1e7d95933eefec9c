// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// What becomes of a packet that an application sends, and which rule decides it.
func Example() {
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	out.Add("the proxy's own traffic leaves as it is", rules.SkUID.Is(1337), rules.Return())
	out.Add("everything else goes to the proxy", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	state := rules.State{Table: &rules.Table{Name: "example", Chains: []*rules.Chain{out}}}

	host := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}})
	host.Routes = append(host.Routes, sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0"})

	evaluator := sim.EvaluatorOf(state, host)
	for _, uid := range []rules.UID{1000, 1337} {
		journey := evaluator.Evaluate(sim.Packet{
			Proto: rules.TCP, Dst: netip.MustParseAddrPort("203.0.113.7:443"), Socket: &sim.Socket{UID: uid},
		}, nil)
		fmt.Printf("uid %d: %s, to %s: %s\n", uid, journey.Fate.Kind, journey.Fate.Dst, journey.Decision().Reason)
	}
	// Output:
	// uid 1000: redirected, to 127.0.0.1:15001: everything else goes to the proxy
	// uid 1337: untouched, to 203.0.113.7:443: the proxy's own traffic leaves as it is
}
