package main

import (
	"os"
	"path/filepath"

	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/modes"
	"golang.org/x/sys/unix"
)

// cgroupIDs are the ids of those of the cgroups v2 that there are, by their paths
// below the root. A cgroup's id is its folder's inode number.
func cgroupIDs(words []string) map[string]uint64 {
	root := cgroup2Mount()
	ids := map[string]uint64{}
	for _, w := range words {
		path := modes.CgroupPath(w)
		var st unix.Stat_t
		if root != "" && path != "" && unix.Stat(filepath.Join(root, path), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			ids[path] = st.Ino
		}
	}
	return ids
}

const mountInfo = "/proc/self/mountinfo"

// cgroup2Mount is where cgroup v2 is mounted, "" where it is not.
func cgroup2Mount() string {
	text, err := os.ReadFile(mountInfo)
	if err != nil {
		return ""
	}
	return nodepods.CgroupMount(text)
}
