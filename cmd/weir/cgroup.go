package main

import (
	"bufio"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/modes"
	"golang.org/x/sys/unix"
)

// cgroupIDs are the ids of those of the cgroups v2 that there are, by their paths
// below the root. A cgroup's id is its folder's inode number.
func cgroupIDs(words []string) map[string]uint64 {
	root := readFile("/proc/self/mountinfo", cgroupMount)
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

// cgroupMount finds where cgroup v2 is mounted in proc_pid_mountinfo(5), "" where
// it is not.
func cgroupMount(r io.Reader) string {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) > 4 && len(kind) > 0 && kind[0] == "cgroup2" {
			return unescapeMount(mount[4])
		}
	}
	return ""
}

// unescapeMount turns the octal escapes of mountinfo back: blanks, and backslashes.
func unescapeMount(path string) string {
	parts := strings.Split(path, `\`)
	for i, p := range slices.Backward(parts) {
		if i == 0 || len(p) < 3 {
			continue
		}
		if code, err := strconv.ParseUint(p[:3], 8, 8); err == nil {
			parts[i] = string([]byte{byte(code)}) + p[3:]
		}
	}
	return strings.Join(parts, "")
}
