package main

import (
	"os"

	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/nft"
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

func anyIPv6(addresses []nft.Address) bool {
	for _, a := range addresses {
		if !a.Loopback() && a.Addr().Is6() && !a.Addr().IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}
