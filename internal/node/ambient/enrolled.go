// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/weir-mesh/weir/internal/atomicfile"
	"github.com/weir-mesh/weir/internal/cni"
)

// WriteEnrolled leaves for the plugin which namespaces and pods are in the mesh, where that differs from what
// the file says. Names of pods are NAMESPACE/NAME.
func WriteEnrolled(path string, namespaces, pods, except []string) error {
	e := cni.NewEnrolled(sorted(namespaces), sorted(pods), sorted(except))
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.Write(path, text)
}

// sorted is the list in an order that does not change, and is never null in JSON.
func sorted(names []string) []string {
	out := append([]string{}, names...)
	slices.Sort(out)
	return slices.Compact(out)
}
