// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of a path that a process may have made as long as it likes.
const (
	maxLinks = 40   // as the kernel's
	maxDepth = 64   // directories, each of which is held open
	maxSteps = 1024 // names that are looked up
)

// walk follows a path below a root, a name at a time.
//
// openat2(2) with RESOLVE_IN_ROOT follows it at once, and that is not enough: to
// look a name up on a FUSE file system is to wait for the process that serves it,
// and once that has taken the request not even SIGKILL ends the wait (seen on Linux
// 6.18, fs/fuse/dev.c: request_wait_answer). So each directory's file system is
// looked at before a name is looked up in it. Nothing leads out: no link is
// followed but by its text, and ".." leads to the directory that was passed before.
type walk struct {
	shown   string // the path, for messages
	mounts  *fileSystems
	passed  []int    // directories, the root first
	names   []string // to be looked up
	links   int
	current uint64 // the mount that was looked at last
}

// find is a descriptor of what a path leads to, which can be looked at and not read.
func (r *root) find(path string) (int, error) {
	w := &walk{shown: r.path + path, mounts: &fileSystems{process: r.process}, passed: []int{int(r.dir.Fd())}, names: split(path)}
	defer func() {
		for _, fd := range w.passed[1:] {
			unix.Close(fd)
		}
	}()
	if err := w.enter(w.here()); err != nil {
		return 0, err
	}
	for range maxSteps {
		if len(w.names) == 0 {
			return unix.FcntlInt(uintptr(w.here()), unix.F_DUPFD_CLOEXEC, 0)
		}
		if err := w.step(); err != nil {
			return 0, err
		}
	}
	return 0, w.refuse("its links make a path that is too long")
}

func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}

func (w *walk) here() int { return w.passed[len(w.passed)-1] }

func (w *walk) refuse(format string, args ...any) error {
	return &FileError{w.shown, fmt.Sprintf(format, args...)}
}

// step looks the next name up.
func (w *walk) step() error {
	name := w.names[0]
	w.names = w.names[1:]
	if name == ".." {
		if len(w.passed) > 1 { // the root is its own parent
			unix.Close(w.here())
			w.passed = w.passed[:len(w.passed)-1]
		}
		return nil
	}
	if len(w.passed) >= maxDepth {
		return w.refuse("it is more than %d directories deep", maxDepth)
	}
	fd, err := unix.Openat(w.here(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: w.shown, Err: err}
	}
	w.passed = append(w.passed, fd)
	return w.enter(fd)
}

// enter looks at what was found: at its file system and, of a link, where it leads.
func (w *walk) enter(fd int) error {
	var at unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_MNT_ID, &at)
	if err != nil {
		return &fs.PathError{Op: "stat", Path: w.shown, Err: err}
	}
	if at.Mnt_id != w.current || at.Mask&unix.STATX_MNT_ID == 0 {
		if why := w.mounts.unfit(fd, &at); why != "" {
			return w.refuse("%s", why)
		}
		w.current = at.Mnt_id
	}
	if at.Mode&unix.S_IFMT == unix.S_IFLNK {
		return w.follow(fd)
	}
	return nil
}

// follow puts a link's text in its place.
func (w *walk) follow(fd int) error {
	if w.links++; w.links > maxLinks {
		return w.refuse("its links lead in a circle")
	}
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", text)
	if err != nil {
		return &fs.PathError{Op: "readlink", Path: w.shown, Err: err}
	}
	back := len(w.passed) - 1
	if text[0] == '/' {
		back = 1
	}
	for _, passed := range w.passed[back:] {
		unix.Close(passed)
	}
	w.passed = w.passed[:back]
	w.names = append(split(string(text[:n])), w.names...)
	return nil
}
