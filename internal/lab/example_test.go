// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab_test

import (
	"context"
	"fmt"
	"log"

	"github.com/weir-mesh/weir/internal/lab"
)

// A run of the conformance lab.
func ExampleRunProbes() {
	ctx := context.Background()
	probes, err := lab.LoadProbes("probes.json")
	if err != nil {
		log.Fatal(err)
	}
	table, err := lab.LoadTable("tproxy.json")
	if err != nil {
		log.Fatal(err)
	}
	pod, err := lab.NewPod(ctx, table.Proxy)
	if err != nil {
		log.Fatal(err)
	}
	defer pod.Close()

	// Here the command under test is applied in the namespace at pod.Path().

	fates, err := lab.RunProbes(ctx, pod, probes)
	if err != nil {
		log.Fatal(err)
	}
	for id, want := range table.Fates {
		if got := fates[id]; got != want {
			fmt.Printf("%s: got %s, want %s\n", id, got, want)
		}
	}
}
