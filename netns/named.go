// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Name is a network namespace that a folder has by name.
type Name struct {
	Path  string
	Inode uint64 // its number, as [Namespace.Inode]
}

const maxNamed = 10_000

// Named lists the namespaces of a folder such as [Folder], in the order of their names. A name whose namespace has
// gone is left out. Where there is no folder, there are none; it is an error that it holds more than 10,000 names.
func Named(folder string) ([]Name, error) {
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
	var found []Name
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if inode, is := InodeAt(path); is {
			found = append(found, Name{path, inode})
		}
	}
	return found, nil
}

// InodeAt is the number of the network namespace that a path leads to; false where it leads to none.
func InodeAt(path string) (uint64, bool) {
	var fs unix.Statfs_t
	var at unix.Stat_t
	if unix.Statfs(path, &fs) != nil || fs.Type != unix.NSFS_MAGIC || unix.Stat(path, &at) != nil {
		return 0, false
	}
	return at.Ino, true
}
