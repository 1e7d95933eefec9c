// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command library captures the pod of a process, and heals what another program does
// to its rules once a line is read.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/netns"
)

func main() {
	ns := must(netns.OfProcess(must(strconv.Atoi(os.Args[1]))))
	file := must(config.Parse(os.Args[2], must(os.ReadFile(os.Args[2]))))
	c, ctx := must(capture.New(ns, file.Config, capture.Options{})), context.Background()
	fmt.Println("to change:", len(must(c.Plan(ctx)).Differences))
	fmt.Println(must(c.Apply(ctx)).Outcome)
	fmt.Scanln()
	if v := must(c.Verify(ctx)); !v.Clean() {
		fmt.Println("drift in", v.Differences[0].Where)
		fmt.Println(must(c.Apply(ctx)).Outcome)
	}
	fmt.Println(must(c.Remove(ctx)).Outcome)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
