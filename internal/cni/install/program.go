// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weir-mesh/weir/internal/cni"
)

// Program is the file to install where none is named: weir-cni beside the running program, or the program
// itself.
func Program() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if beside := filepath.Join(filepath.Dir(self), cni.Type); isFile(beside) {
		return beside, nil
	}
	return "/proc/self/exe", nil // which is there even where its name is gone
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// installProgram copies the program into the first folder that can be written.
func (o Options) installProgram() error {
	text, err := os.ReadFile(o.Program)
	if err != nil {
		return err
	}
	var all []error
	for _, folder := range o.BinDirs {
		path := filepath.Join(folder, cni.Type)
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, text) {
			o.Tell("%s: unchanged", path)
			return nil
		}
		err := replace(path, text, 0o755)
		if err == nil {
			o.changed()
			o.Tell("%s: installed", path)
			return nil
		}
		all = append(all, fmt.Errorf("--bin-dir: %s: %w", folder, err))
		if !readOnly(err) {
			break
		}
	}
	err = errors.Join(all...)
	if readOnly(err) {
		err = fmt.Errorf("%w (want the folder that the runtime is configured with: bin_dir or bin_dirs of containerd, plugin_dirs of CRI-O; where the system's is read-only, such as /var/lib/cni/bin)", err)
	}
	return err
}
