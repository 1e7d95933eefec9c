// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capturetest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/capture/capturetest"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// keep is a program under test: it heals what drifted.
func keep(ctx context.Context, engine capture.Engine) error {
	verdict, err := engine.Verify(ctx)
	if err != nil || verdict.Clean() {
		return err
	}
	report, err := engine.Apply(ctx)
	fmt.Println(report.Outcome)
	return err
}

func Example() {
	ctx := context.Background()
	pod := &capturetest.Namespace{Environment: modes.Environment{IPv6: true, LoopbackIPv6: true}}
	engine, err := pod.New(modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: modes.IDs(1337)}}, capture.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keep(ctx, engine)) // nothing is there yet
	fmt.Println(keep(ctx, engine))
	err = pod.Disturb("weir", func(s *rules.State) { s.Table.Chains[0].Rules = nil })
	fmt.Println(err, keep(ctx, engine))
	// Output:
	// created
	// <nil>
	// <nil>
	// replaced
	// <nil> <nil>
}
