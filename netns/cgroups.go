// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"path/filepath"

	"github.com/weir-mesh/weir/internal/mountinfo"
	"github.com/weir-mesh/weir/internal/proc"
	"golang.org/x/sys/unix"
)

// Cgroup2Mount is where this program sees the cgroups of version 2, "" where it does
// not. The error is that it is not told what is mounted.
func Cgroup2Mount() (string, error) {
	text, err := proc.Read("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	return cgroup2Mount(text), nil
}

func cgroup2Mount(text []byte) string {
	for _, m := range mountinfo.Parse(text) {
		if m.Type == "cgroup2" {
			return m.Point
		}
	}
	return ""
}

// CgroupIDs are the numbers of cgroups of version 2, as nftables matches them, by their
// paths below the root: of those that are there. A cgroup's number is its folder's
// inode.
func CgroupIDs(paths []string) map[string]uint64 {
	ids := map[string]uint64{}
	root, err := Cgroup2Mount()
	if root == "" || err != nil {
		return ids
	}
	for _, path := range paths {
		var at unix.Stat_t
		if path != "" && unix.Stat(filepath.Join(root, path), &at) == nil && at.Mode&unix.S_IFMT == unix.S_IFDIR {
			ids[path] = at.Ino
		}
	}
	return ids
}
