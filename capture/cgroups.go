package capture

import (
	"os"
	"path/filepath"

	"github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/modes"
	"golang.org/x/sys/unix"
)

// cgroupIDs are the ids of those of the cgroups v2 that there are, by their paths
// below the root. A cgroup's id is its folder's inode number.
func cgroupIDs(words []string) map[string]uint64 {
	ids := map[string]uint64{}
	mountInfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ids
	}
	root := pods.CgroupMount(mountInfo)
	for _, w := range words {
		path := modes.CgroupPath(w)
		var at unix.Stat_t
		if root != "" && path != "" && unix.Stat(filepath.Join(root, path), &at) == nil && at.Mode&unix.S_IFMT == unix.S_IFDIR {
			ids[path] = at.Ino
		}
	}
	return ids
}
