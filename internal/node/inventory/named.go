// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inventory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Named is a folder of namespaces by name, as ip-netns(8) and container runtimes have it. It does not tell
// whose they are.
type Named string

// Name is the folder.
func (n Named) Name() string { return string(n) }

// Pods lists the namespaces. Where there is no folder, there are none.
func (n Named) Pods(context.Context) (out []Pod, err error) {
	files, err := os.ReadDir(string(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range files {
		path := filepath.Join(string(n), f.Name())
		if number := inode(path); number != 0 {
			out = append(out, Pod{Netns: path, Inode: number})
		}
	}
	return out, err
}
