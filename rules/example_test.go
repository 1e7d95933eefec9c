// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// A ruleset by hand: what an application sends to the world goes to a proxy on port
// 15001, but for a network that is left alone.
func Example() {
	const proxy rules.UID = 1337
	table := &rules.Table{Name: "example"}
	local := rules.IPDaddr.AddSet(table, "left_alone", rules.RangeOf(netip.MustParsePrefix("10.0.0.0/8")))

	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	out.Add("the proxy's own traffic leaves as it is", rules.SkUID.Is(proxy), rules.Return())
	out.Add("local traffic is left alone", rules.IPDaddr.InSet(local), rules.Return())
	out.Add("everything else goes to the proxy", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	table.Chains = append(table.Chains, out)

	state := rules.State{Table: table}
	if err := state.Check(); err != nil {
		fmt.Println(err)
	}
	fmt.Print(state)
	// Output:
	// table inet example
	// delete table inet example
	// table inet example {
	// 	set left_alone {
	// 		type ipv4_addr
	// 		flags interval
	// 		elements = {
	// 			10.0.0.0/8
	// 		}
	// 	}
	//
	// 	chain output {
	// 		type nat hook output priority -100; policy accept;
	// 		meta skuid 1337 return comment "the proxy's own traffic leaves as it is"
	// 		ip daddr @left_alone return comment "local traffic is left alone"
	// 		meta l4proto tcp redirect to :15001 comment "everything else goes to the proxy"
	// 	}
	// }
}

// What differs is told in words, with both sides.
func ExampleState_Compare() {
	chain := func(uid rules.UID) rules.State {
		c := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
		c.Add("the proxy's own traffic", rules.SkUID.Is(uid), rules.Return())
		return rules.State{Table: &rules.Table{Name: "example", Chains: []*rules.Chain{c}}}
	}
	for _, d := range chain(1337).Compare(chain(1338)) {
		fmt.Println(d)
	}
	// Output:
	// chain output rule 1 "the proxy's own traffic" differs
	//   want  meta skuid 1337 return
	//   have  meta skuid 1338 return
}
