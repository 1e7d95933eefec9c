//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/escape"
)

// isPlugin reports whether a container runtime calls: by the plugin's name, or as weir cni with the call in
// the environment.
func isPlugin(args []string) bool {
	byName := len(args) == 1 && filepath.Base(args[0]) == cni.Type
	return byName || len(args) == 2 && args[1] == "cni" && os.Getenv("CNI_COMMAND") != ""
}

func runPlugin(ctx context.Context) int {
	if !cni.Run(ctx, cni.Program{Out: os.Stdout, Err: escape.Writer{Writer: os.Stderr}}) {
		return exitFailed
	}
	return exitDone
}
