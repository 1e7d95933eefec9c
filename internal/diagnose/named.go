// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const maxNamed = 10_000

// namedNamespaces are the network namespaces that a folder has by name, as ip-netns(8) and container runtimes keep
// them. A name whose namespace has gone is a plain file on another device, and is left out.
func namedNamespaces(folder string) ([]visit, error) {
	var own syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/net", &own); err != nil {
		return nil, fmt.Errorf("/proc/self/ns/net: %w", err)
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(entries) > maxNamed {
		return nil, fmt.Errorf("%s holds more than %d names", folder, maxNamed)
	}
	var found []visit
	for _, e := range entries {
		var s syscall.Stat_t
		if syscall.Stat(filepath.Join(folder, e.Name()), &s) == nil && s.Dev == own.Dev {
			found = append(found, visit{name: e.Name(), inode: s.Ino})
		}
	}
	return found, nil
}
