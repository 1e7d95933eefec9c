// SPDX-License-Identifier: Apache-2.0

//go:build linux

package pods

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// mount is where a cgroup hierarchy, or a part of it, can be seen.
type mount struct {
	device  uint64
	root    string   // the cgroup that is seen as the mount's top, from this program's cgroup namespace
	point   string   // in this program's file system
	v2      bool     // else
	options []string // the controllers of a hierarchy of v1, or its name
}

// mountsOf are the cgroup mounts of a proc_pid_mountinfo(5).
func mountsOf(text []byte) []mount {
	var out []mount
	for _, m := range mountinfo.Parse(text) {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			out = append(out, mount{unix.Mkdev(m.Major, m.Minor), m.Root, m.Point, m.Type == "cgroup2", m.Options})
		}
	}
	return out
}

// shows reports whether the mount is one of the hierarchy that a line of
// proc_pid_cgroup(5) names: "" for v2, else controllers, or name=systemd.
func (m mount) shows(hierarchy string) bool {
	if hierarchy == "" || m.v2 {
		return m.v2 && hierarchy == ""
	}
	for controller := range strings.SplitSeq(hierarchy, ",") {
		if !slices.Contains(m.options, controller) {
			return false
		}
	}
	return true
}

// folder is where the mount shows a cgroup, false where it does not. A path that
// leads up ("/..") is that of a cgroup outside of this program's cgroup namespace.
func (m mount) folder(cgroup string) (string, bool) {
	if m.root != "/" {
		below, ok := strings.CutPrefix(cgroup, m.root)
		if !ok || below != "" && below[0] != '/' {
			return "", false
		}
		cgroup = below
	}
	if slices.Contains(strings.Split(cgroup, "/"), "..") {
		return "", false
	}
	return filepath.Join(m.point, cgroup), true
}
