// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// fileSystems are those that a process sees, by what mountinfo tells of them:
// statfs(2) would ask the file system itself, which may not answer.
type fileSystems struct {
	process *Process
	mounts  []mountinfo.Mount
}

// unfit says why nothing is looked up on the file system of a file, "" where there
// is no reason.
func (s *fileSystems) unfit(fd int, at *unix.Statx_t) string {
	m, known := s.find(at)
	if !known {
		m = unlisted(fd)
	}
	switch {
	case m.Type == "proc":
		return "it leads into /proc, which tells of the reader"
	case m.Type == "fuse", m.Type == "fuseblk", strings.HasPrefix(m.Type, "fuse."):
		return fmt.Sprintf("it is on a file system of type %q, which a process serves: should that not answer, the wait could not be ended", m.Type)
	case m.Type == "overlay" && slices.Contains(m.Options, "userxattr") && inInitialUsers():
		// It was mounted in a user namespace, and may lie over a FUSE file system.
		return "it is on an overlay that was mounted in a user namespace, where it may be served by a process"
	}
	return ""
}

// unlisted is a mount that no list has, as of a process that changed its root to a
// folder in a mount namespace of its own. The file system must then be asked after
// all: a FUSE file system of another user's answers this without its process, see
// fuse_statfs in fs/fuse/inode.c. What lies below an overlay is not known.
func unlisted(fd int) mountinfo.Mount {
	var at unix.Statfs_t
	if err := unix.Fstatfs(fd, &at); err != nil {
		return mountinfo.Mount{Type: "fuse"}
	}
	switch at.Type {
	case unix.FUSE_SUPER_MAGIC:
		return mountinfo.Mount{Type: "fuse"}
	case unix.OVERLAYFS_SUPER_MAGIC:
		return mountinfo.Mount{Type: "overlay", Options: []string{"userxattr"}}
	case unix.PROC_SUPER_MAGIC:
		return mountinfo.Mount{Type: "proc"}
	}
	return mountinfo.Mount{}
}

// find is the mount of a file: by its number, as the process sees it and as this
// program does, or else by the device. A process that changed its root does not
// list the mount that its root is in.
func (s *fileSystems) find(at *unix.Statx_t) (mountinfo.Mount, bool) {
	if s.mounts == nil {
		theirs, _ := s.process.ReadFile("mountinfo") // what cannot be read lists nothing
		ours, _ := os.ReadFile("/proc/self/mountinfo")
		s.mounts = append(mountinfo.Parse(theirs), mountinfo.Parse(ours)...)
	}
	if at.Mask&unix.STATX_MNT_ID != 0 { // Linux 5.8
		if i := slices.IndexFunc(s.mounts, func(m mountinfo.Mount) bool { return m.ID == at.Mnt_id }); i >= 0 {
			return s.mounts[i], true
		}
	}
	if i := slices.IndexFunc(s.mounts, func(m mountinfo.Mount) bool { return m.Major == at.Dev_major && m.Minor == at.Dev_minor }); i >= 0 {
		return s.mounts[i], true
	}
	return mountinfo.Mount{}, false
}

// inInitialUsers reports whether the program is in the machine's initial user
// namespace, in which every user exists.
func inInitialUsers() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}
