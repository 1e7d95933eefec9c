package netns

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fileSystems are those that a process sees, by what mountinfo tells of them:
// statfs(2) would ask the file system itself, which may not answer.
type fileSystems struct {
	process *Process
	mounts  []mounted
}

// mounted is a line of proc_pid_mountinfo(5).
type mounted struct {
	id      string
	device  string // major:minor
	kind    string
	options []string // of the file system
}

func parseMounts(mountinfo []byte) (out []mounted) {
	for line := range bytes.Lines(mountinfo) {
		before, after, _ := strings.Cut(string(line), " - ")
		fields, of := strings.Fields(before), strings.Fields(after)
		if len(fields) > 2 && len(of) > 2 {
			out = append(out, mounted{fields[0], fields[2], of[0], strings.Split(of[2], ",")})
		}
	}
	return out
}

// unfit says why nothing is looked up on the file system of a file, "" where there
// is no reason.
func (s *fileSystems) unfit(fd int, at *unix.Statx_t) string {
	m, known := s.find(at)
	if !known {
		m = unlisted(fd)
	}
	switch {
	case m.kind == "proc":
		return "it leads into /proc, which tells of the reader"
	case m.kind == "fuse", m.kind == "fuseblk", strings.HasPrefix(m.kind, "fuse."):
		return fmt.Sprintf("it is on a file system of type %q, which a process serves: should that not answer, the wait could not be ended", m.kind)
	case m.kind == "overlay" && slices.Contains(m.options, "userxattr") && inInitialUsers():
		// It was mounted in a user namespace, and may lie over a FUSE file system.
		return "it is on an overlay that was mounted in a user namespace, where it may be served by a process"
	}
	return ""
}

// unlisted is a mount that nobody lists, as of a process that changed its root to a
// folder in a mount namespace of its own. The file system must then be asked after
// all: a FUSE file system of another user's answers this without its process, see
// fuse_statfs in fs/fuse/inode.c. What lies below an overlay is not known.
func unlisted(fd int) mounted {
	var at unix.Statfs_t
	if err := unix.Fstatfs(fd, &at); err != nil {
		return mounted{kind: "fuse"}
	}
	switch at.Type {
	case unix.FUSE_SUPER_MAGIC:
		return mounted{kind: "fuse"}
	case unix.OVERLAYFS_SUPER_MAGIC:
		return mounted{kind: "overlay", options: []string{"userxattr"}}
	case unix.PROC_SUPER_MAGIC:
		return mounted{kind: "proc"}
	}
	return mounted{}
}

// find is the mount of a file: by its number, as the process sees it and as this
// program does, or else by the device. A process that changed its root does not
// list the mount that its root is in.
func (s *fileSystems) find(at *unix.Statx_t) (mounted, bool) {
	if s.mounts == nil {
		theirs, _ := s.process.ReadFile("mountinfo") // what cannot be read lists nothing
		ours, _ := os.ReadFile("/proc/self/mountinfo")
		s.mounts = append(parseMounts(theirs), parseMounts(ours)...)
	}
	id, device := fmt.Sprint(at.Mnt_id), fmt.Sprintf("%d:%d", at.Dev_major, at.Dev_minor)
	if at.Mask&unix.STATX_MNT_ID != 0 { // Linux 5.8
		if i := slices.IndexFunc(s.mounts, func(m mounted) bool { return m.id == id }); i >= 0 {
			return s.mounts[i], true
		}
	}
	if i := slices.IndexFunc(s.mounts, func(m mounted) bool { return m.device == device }); i >= 0 {
		return s.mounts[i], true
	}
	return mounted{}, false
}

// inInitialUsers reports whether the program is in the machine's initial user
// namespace, in which every user exists.
func inInitialUsers() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}
