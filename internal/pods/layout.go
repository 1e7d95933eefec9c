// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package pods knows how kubelets lay out the pods of a node: the names of their
// cgroups, and by them which processes are whose.
package pods

import (
	"regexp"
	"strings"
	"sync"
)

const (
	digits       = `[0-9a-f]`
	runtimes     = `cri-containerd|crio|docker`
	containerID  = digits + `+`
	kubepods     = "kubepods"
	maxDepth     = 64 // of the cgroups that are looked through
	qosBurstable = "burstable"
	qosBest      = "besteffort"
)

// patterns are of the names of cgroups.
type patterns struct {
	uid *regexp.Regexp
	// The pod's cgroup: of the cgroupfs driver, of the systemd driver below a
	// cgroup root or none, and of the systemd driver where the runtime uses
	// cgroupfs and takes systemd's notation for a name.
	podFolder, podSlice, podAndContainer *regexp.Regexp
	// A container's: of cgroupfs and of systemd. CRI-O's conmon, whose cgroup may
	// stand beside them, is none, and works in the host's network namespace.
	containerFolder, containerScope *regexp.Regexp
	mention                         *regexp.Regexp // of a pod, anywhere
}

var names = sync.OnceValue(func() patterns {
	uuid := func(dash string) string {
		return `(?:` + digits + `{8}(?:` + dash + digits + `{4}){3}` + dash + digits + `{12}|` + digits + `{32})`
	}
	dashed, underscored := uuid("-"), uuid("_") // 32 digits: a static pod's, a hash of its manifest
	slice := `(?:[^-/]+-)*kubepods-(?:(?:burstable|besteffort)-)?pod(` + underscored + `)\.slice`
	exact := func(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + pattern + `)$`) }
	return patterns{
		uid:             exact(dashed),
		podFolder:       exact(`pod(` + dashed + `)`),
		podSlice:        exact(slice),
		podAndContainer: exact(slice + `:(?:` + runtimes + `):` + containerID),
		containerFolder: exact(`(?:crio-)?` + containerID),
		containerScope:  exact(`(?:` + runtimes + `)-` + containerID + `\.scope`),
		mention:         regexp.MustCompile(`pod(` + dashed + `|` + underscored + `)(?:[^0-9a-f]|$)`),
	}
})

// IsUID reports whether a word is a pod's UID as kubelets have them: a UUID, or the
// 32 digits of a static pod's.
func IsUID(word string) bool { return names().uid.MatchString(word) }

// place is where a cgroup's path names a pod.
type place struct {
	uid       string
	pod       string // the path down to the pod's own cgroup, all of which the kubelet or the runtime made
	container bool   // the path leads into one of the pod's containers
}

// placeOf finds the pod in a path as kubelets and runtimes make it. What stands
// below the container was made in it, and may have any name: it tells nothing.
//
//	/kubepods/burstable/podUID/ID
//	/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_I_D.slice/cri-containerd-ID.scope
//	/system.slice/containerd.service/kubepods-burstable-podU_I_D.slice:cri-containerd:ID
//
// Pods of the guaranteed class stand directly below kubepods. Before it may stand
// the kubelet's --cgroup-root, or the cgroup of the container that the node is.
func placeOf(path string) (place, bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	n := names()
	for i, part := range parts[:min(len(parts), maxDepth)] {
		p := place{pod: "/" + strings.Join(parts[:i+1], "/")}
		if m := n.podAndContainer.FindStringSubmatch(part); m != nil {
			p.uid, p.container = undashed(m[1]), true
			return p, true
		}
		var containers *regexp.Regexp
		if m := n.podFolder.FindStringSubmatch(part); m != nil && belowKubepods(parts[:i]) {
			p.uid, containers = m[1], n.containerFolder
		} else if m := n.podSlice.FindStringSubmatch(part); m != nil && isSlicePath(parts[:i+1]) {
			p.uid, containers = undashed(m[1]), n.containerScope
		} else {
			continue
		}
		p.container = i+1 < len(parts) && containers.MatchString(parts[i+1])
		return p, true
	}
	return place{}, false
}

// undashed is a UID of a slice's name, in which a dash would be a level.
func undashed(uid string) string { return strings.ReplaceAll(uid, "_", "-") }

// belowKubepods reports whether a path ends in kubepods, or in a class below it.
func belowKubepods(parts []string) bool {
	last := len(parts) - 1
	if last > 0 && (parts[last] == qosBurstable || parts[last] == qosBest) {
		last--
	}
	return last >= 0 && parts[last] == kubepods
}

// isSlicePath reports whether a path ends in a slice below all those that its name
// says, see systemd.slice(5): a-b.slice is in a.slice.
func isSlicePath(parts []string) bool {
	last := len(parts) - 1
	name := strings.TrimSuffix(parts[last], ".slice")
	for at := last - 1; ; at-- {
		dash := strings.LastIndexByte(name, '-')
		if dash < 0 {
			return true
		}
		if name = name[:dash]; at < 0 || parts[at] != name+".slice" {
			return false
		}
	}
}

// mentions reports whether a path names a pod's UID anywhere.
func mentions(path string) bool { return names().mention.MatchString(path) }
