// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command container starts a program as a container runtime does: as some user,
// with some capabilities at most and no way to gain others and, where it is given
// an image, with nothing but that in sight. The integration tests run it; it knows
// nothing of them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// container is what the flags say.
type container struct {
	uid, gid int
	caps     []int // of the bounding set; a user other than 0 has none of them

	// An image that holds one file, image, as /weir. Its root is read-only.
	image     string
	root      string // an empty folder, to mount it on
	resolvers string // what resolv.conf holds
	message   string // the file that is /dev/termination-log
}

func main() {
	runtime.LockOSThread() // a mount namespace is a thread's
	var c container
	flag.IntVar(&c.uid, "uid", 0, "the user")
	flag.IntVar(&c.gid, "gid", 0, "the group")
	flag.Func("caps", "the capabilities, numbers with commas between", func(list string) error {
		for word := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(word)
			if err != nil {
				return err
			}
			c.caps = append(c.caps, n)
		}
		return nil
	})
	flag.StringVar(&c.image, "image", "", "the one file of the image, none for the machine's own files")
	flag.StringVar(&c.root, "root", "", "an empty folder")
	flag.StringVar(&c.resolvers, "resolvers", "", "what resolv.conf holds")
	flag.StringVar(&c.message, "message", "", "the file that is /dev/termination-log")
	flag.Parse()
	if err := c.become(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(1)
	}
}

// become is the end of this program, unless it fails.
func (c container) become(args []string) error {
	if len(args) == 0 {
		return errors.New("no program")
	}
	if c.image != "" {
		if err := c.enter(); err != nil {
			return fmt.Errorf("enter the image: %w", err)
		}
	}
	if err := c.confine(); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// enter makes the image the root.
func (c container) enter() error {
	at := func(path string) string { return filepath.Join(c.root, path) }
	file := func(path string) func() error {
		return func() error { return os.WriteFile(at(path), []byte(c.resolvers), 0o644) }
	}
	folder := func(path string) func() error { return func() error { return os.Mkdir(at(path), 0o755) } }
	mount := func(what, path, typ string, flags uintptr) func() error {
		return func() error { return unix.Mount(what, path, typ, flags, "") }
	}
	for _, step := range []func() error{
		func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE),
		mount("tmpfs", c.root, "tmpfs", 0),
		folder("proc"), folder("etc"), folder("dev"),
		file("etc/resolv.conf"), file("dev/termination-log"), file("weir"),
		mount("/proc", at("proc"), "", unix.MS_BIND|unix.MS_REC),
		mount(c.image, at("weir"), "", unix.MS_BIND),
		mount(c.message, at("dev/termination-log"), "", unix.MS_BIND),
		func() error { return os.Chmod(c.root, 0o755) },
		mount("tmpfs", c.root, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY),
		func() error { return unix.Chroot(c.root) },
		func() error { return os.Chdir("/") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c container) confine() error {
	for capability := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(c.caps, capability) {
			continue
		}
		// A kernel may know fewer, and the machine may lack one.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	if err := unix.Setresgid(c.gid, c.gid, c.gid); err != nil {
		return err
	}
	return unix.Setresuid(c.uid, c.uid, c.uid)
}
