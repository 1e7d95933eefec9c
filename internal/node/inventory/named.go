// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inventory

import (
	"context"

	"github.com/weir-mesh/weir/netns"
)

// Named is a folder of namespaces by name, as ip-netns(8) and container runtimes have it. It does not tell
// whose they are.
type Named string

// Name is the folder.
func (n Named) Name() string { return string(n) }

// Pods lists the namespaces. Where there is no folder, there are none.
func (n Named) Pods(context.Context) (out []Pod, err error) {
	found, err := netns.Named(string(n))
	for _, f := range found {
		out = append(out, Pod{Netns: f.Path, Inode: f.Inode})
	}
	return out, err
}
