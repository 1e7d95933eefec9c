// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"testing"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/capture/capturetest"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// TestMain leaves out the examples that make a namespace where that takes root.
func TestMain(m *testing.M) {
	flag.Parse()
	if n, err := scratch.NewNamespace(); err == nil {
		n.Close()
	} else {
		fmt.Fprintln(os.Stderr, "the examples are left out: they need root, or unshare -Urn:", err)
		_ = flag.Set("test.skip", "^Example(OfState)?$")
	}
	os.Exit(m.Run())
}

// The whole way: open a pod's namespace, apply a configuration, prove it, remove it.
func Example() {
	ctx := context.Background()
	ns, err := netns.Open(podNamespace()) // a name, or a file such as /proc/4711/ns/net
	if err != nil {
		log.Fatal(err)
	}
	defer ns.Close()
	config := modes.Config{Mode: modes.ModeSidecar, IPv6: "disabled", Proxy: modes.Proxy{UIDs: []string{"1337"}}}
	c, err := capture.New(ns, config, capture.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	report, err := c.Apply(ctx)
	fmt.Println(report.Outcome, err)
	verdict, err := c.Verify(ctx)
	fmt.Println(verdict.Clean(), err)
	report, err = c.Remove(ctx)
	fmt.Println(report.Outcome, err)
	// Output:
	// created <nil>
	// true <nil>
	// removed <nil>
}

// A ruleset by hand: what users other than the proxy's open to port 80 goes to port
// 15001.
func ExampleOfState() {
	ctx := context.Background()
	ns, err := netns.Open(podNamespace())
	if err != nil {
		log.Fatal(err)
	}
	defer ns.Close()
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	out.Add("the proxy's own traffic", rules.SkUID.Is(1337), rules.Return())
	out.Add("HTTP goes through the proxy", rules.TCPDport.Is(80), rules.RedirectTo(15001))
	state := rules.State{Table: &rules.Table{Name: "by-hand", Chains: []*rules.Chain{out}}}

	c, err := capture.OfState(ns, state, capture.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	plan, err := c.Plan(ctx)
	fmt.Print(plan.Script())
	fmt.Println(len(plan.Differences), "difference", err)
	report, err := c.Apply(ctx)
	fmt.Println(report.Outcome, err)
	// Output:
	// table inet by-hand
	// delete table inet by-hand
	// table inet by-hand {
	// 	chain output {
	// 		type nat hook output priority -100; policy accept;
	// 		meta skuid 1337 return comment "the proxy's own traffic"
	// 		tcp dport 80 redirect to :15001 comment "HTTP goes through the proxy"
	// 	}
	// }
	// 1 difference <nil>
	// created <nil>
}

// A test of a program that captures pods: the fake stands for the namespace.
func Example_withoutKernel() {
	config := modes.Config{Mode: modes.ModeAmbientPod, IPv6: "disabled"}
	pod := &capturetest.Namespace{LoopbackDown: true}
	var engine capture.Engine
	engine, err := pod.New(config, capture.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = engine.Apply(context.Background())
	fmt.Println(errors.Is(err, capture.ErrLoopbackDown), err)
	// Output:
	// true lo is down: what is redirected would not reach the proxy (set it up first)
}

// pods keeps namespaces open until the program ends.
var pods []*scratch.Namespace

func podNamespace() string {
	pod, err := scratch.NewNamespace()
	if err != nil {
		log.Fatal(err)
	}
	pods = append(pods, pod)
	return pod.Path()
}
