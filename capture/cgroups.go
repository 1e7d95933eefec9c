// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/netns"
)

// cgroupIDs are the ids of those of the cgroups v2 that there are, by their paths
// below the root.
func cgroupIDs(words []string) map[string]uint64 {
	paths := make([]string, len(words))
	for i, w := range words {
		paths[i] = parse.CgroupPath(w)
	}
	return netns.CgroupIDs(paths)
}
