// SPDX-License-Identifier: Apache-2.0

//go:build linux

// GOMAXPROCS is 1, so the runtime need not poll the CPU limit of the cgroup.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command weir-cni is weir as a CNI plugin alone, with a client of the API server, which takes it TLS: weir
// under this name is the same plugin without.
package main

import (
	"context"
	"os"

	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/kube"
	_ "github.com/weir-mesh/weir/internal/oneproc"
)

func main() {
	if !cni.Run(context.Background(), cni.Program{Out: os.Stdout, Err: escape.Writer{Writer: os.Stderr}, Pod: kube.Pod}) {
		os.Exit(1)
	}
}
