// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
	f, err := os.CreateTemp(filepath.Dir(path), ".enrolled-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// sorted is the list in an order that does not change, and is never null in JSON.
func sorted(names []string) []string {
	out := append([]string{}, names...)
	slices.Sort(out)
	return slices.Compact(out)
}
