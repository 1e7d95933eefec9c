// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package inventory finds the pods of a node and their network namespaces: by libcni's notes of what it
// attached, by names in /run/netns, by processes, by what a container runtime tells. It knows nothing of
// capture, and changes nothing.
package inventory

import (
	"context"
	"net/netip"
)

// Pod is a network namespace of the node, and what a source tells of the pod whose it is.
type Pod struct {
	Netns string // a path at which it can be opened
	Inode uint64 // its number, which no other namespace has while it is there

	Namespace, Name, UID string // "" where that is not known
	Container            string // the sandbox, as the runtime names it

	Annotations map[string]string // when the pod's network was made; nil: not known
	Addresses   []netip.Addr
	Resolvers   []netip.Addr // nil: not known
}

// Container is one of a pod's.
type Container struct {
	Name   string
	Cgroup string // as the runtime names it: a path, or SLICE:PREFIX:NAME for systemd to make
}

// IsPod reports whether it is known whose the namespace is.
func (p Pod) IsPod() bool { return p.Namespace != "" && p.Name != "" }

// String is the pod as kubectl names it or, where it is not known, the path of its namespace.
func (p Pod) String() string {
	if p.IsPod() {
		return p.Namespace + "/" + p.Name
	}
	return p.Netns
}

// Source tells of pods. What one cannot tell of is left out, and is not an error; an error is that it tells of
// none.
type Source interface {
	Name() string
	Pods(context.Context) ([]Pod, error)
}
