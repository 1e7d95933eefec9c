package main

import (
	"os"

	nodepods "github.com/weir-mesh/weir/internal/pods"
)

const mountInfo = "/proc/self/mountinfo"

// cgroup2Mount is where cgroup v2 is mounted, "" where it is not.
func cgroup2Mount() string {
	text, err := os.ReadFile(mountInfo)
	if err != nil {
		return ""
	}
	return nodepods.CgroupMount(text)
}
