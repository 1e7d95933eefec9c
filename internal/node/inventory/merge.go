// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inventory

import (
	"context"
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/internal/problems"
	"golang.org/x/sys/unix"
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
				if p.Inode = inode(p.Netns); p.Inode == 0 {
					continue // it has gone
				}
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

// inode is the number of the network namespace that a path leads to, 0 where it leads to none.
func inode(path string) uint64 {
	var fs unix.Statfs_t
	var at unix.Stat_t
	if unix.Statfs(path, &fs) != nil || fs.Type != unix.NSFS_MAGIC || unix.Stat(path, &at) != nil {
		return 0
	}
	return at.Ino
}
