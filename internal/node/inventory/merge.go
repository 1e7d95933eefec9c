// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inventory

import (
	"context"
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/netns"
)

// All asks every source, and joins what they tell of one namespace: of two that tell the same, the first
// counts. The error joins why sources told nothing; what the others told is there all the same.
func All(ctx context.Context, sources []Source) ([]Pod, error) {
	var out []Pod
	at := map[uint64]int{}
	var wrong []error
	for _, s := range sources {
		found, err := s.Pods(ctx)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", s.Name(), err))
		}
		for _, p := range found {
			if p.Inode == 0 {
				inode, is := netns.InodeAt(p.Netns)
				if !is {
					continue // it has gone
				}
				p.Inode = inode
			}
			if i, known := at[p.Inode]; known {
				out[i] = out[i].with(p)
				continue
			}
			at[p.Inode] = len(out)
			out = append(out, p)
		}
	}
	return out, problems.Join(wrong...)
}

// with is a pod with what another source adds.
func (p Pod) with(more Pod) Pod {
	if !p.IsPod() && more.IsPod() {
		more.Netns = p.Netns
		p, more = more, p
	}
	if p.UID == "" {
		p.UID = more.UID
	}
	if p.Container == "" {
		p.Container = more.Container
	}
	if p.Annotations == nil {
		p.Annotations = more.Annotations
	}
	if p.Addresses == nil {
		p.Addresses = more.Addresses
	}
	if p.Resolvers == nil {
		p.Resolvers = more.Resolvers
	}
	return p
}

// HostPath is a path of the machine's as it stands here: runtimes write /var/run, which an image that holds
// one file does not have.
func HostPath(path string) string {
	if rest, is := strings.CutPrefix(path, "/var/run/"); is {
		return "/run/" + rest
	}
	return path
}
