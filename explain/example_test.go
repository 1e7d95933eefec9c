// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain_test

import (
	"context"
	"fmt"
	"log"

	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// The fate of a packet under a configuration, without a kernel.
func Example() {
	config := modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}}
	want, err := explain.RulesOf(config, modes.Environment{IPv6: true, LoopbackIPv6: true})
	if err != nil {
		log.Fatal(err)
	}
	packet, err := explain.Request{Packet: "tcp 10.0.0.1:443"}.Parse()
	if err != nil {
		log.Fatal(err)
	}
	answer := want.In(explain.Pod()).Explain(packet)
	step := answer.Decision()
	fmt.Println(answer.Says)
	fmt.Printf("by chain %s, rule %d\n", step.Chain, step.Rule)
	// Output:
	// captured: lands on the outbound listener, port 15001; original destination 10.0.0.1:443
	// by chain output, rule 12
}

// The fate of a packet in a live namespace, and the step that decides it.
func ExampleLive() {
	ns, err := netns.Open("pod")
	if err != nil {
		log.Fatal(err)
	}
	defer ns.Close()
	live, err := explain.Live(context.Background(), ns)
	if err != nil {
		log.Fatal(err)
	}
	packet, err := explain.Request{Packet: "tcp 10.244.1.5:8080", In: "eth0", From: "203.0.113.7"}.Parse()
	if err != nil {
		log.Fatal(err)
	}
	answer := live.Explain(packet)
	step := answer.Decision()
	fmt.Printf("%s, by table %s, chain %s, rule %d\n", answer.Fate.Kind, step.Table, step.Chain, step.Rule)
}

// What changes between two configurations.
func ExampleCompare() {
	config := modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}}
	env := modes.Environment{IPv6: true, LoopbackIPv6: true}
	before, err := explain.RulesOf(config, env)
	if err != nil {
		log.Fatal(err)
	}
	config.Outbound.ExcludePorts = []modes.PortWord{"9411"}
	after, err := explain.RulesOf(config, env)
	if err != nil {
		log.Fatal(err)
	}
	changes, err := explain.Compare(explain.Pod(), before, after)
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range changes {
		fmt.Printf("%s; %s: %s -> %s\n", c.From, c.To, c.Before, c.After)
	}
	// Output:
	// from this pod, uid not 1337; tcp, to elsewhere, port 9411: outbound listener :15001 -> left alone
	// uid 1337, from not 127.0.0.6, ::6; tcp, to this pod, other loopback, port 9411: inbound listener :15006 -> left alone
}
