// SPDX-License-Identifier: Apache-2.0

//go:build linux

package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Cgroups tells pods by the cgroups of processes. It believes a cgroup's name where
// only root can have made it: a cgroup that is delegated to a user may hold a
// folder by any name.
type Cgroups struct {
	mounts []mount
	stat   func(path string) (unix.Stat_t, error)
	owners map[string]error // why folders are not root's, nil where they are
}

// readCgroups looks at where cgroups are mounted.
func readCgroups() (*Cgroups, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return newCgroups(text, lstat), nil
}

func newCgroups(mountinfo []byte, stat func(string) (unix.Stat_t, error)) *Cgroups {
	return &Cgroups{mounts: mountsOf(mountinfo), stat: stat, owners: map[string]error{}}
}

func lstat(path string) (at unix.Stat_t, err error) {
	if err := unix.Lstat(path, &at); err != nil {
		return at, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return at, nil
}

// Pod is the UID of the pod that a process is of, by its proc_pid_cgroup(5); "" for
// none. It is an error that a path names a pod and is not to be believed.
func (c *Cgroups) Pod(cgroup []byte) (uid string, err error) {
	var doubt error
	for line := range strings.Lines(string(cgroup)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":") // the hierarchy's number
		hierarchy, path, _ := strings.Cut(rest, ":")
		found, err := c.podOf(hierarchy, path)
		switch {
		case err != nil && doubt == nil:
			doubt = err
		case err == nil && found != "" && uid != "" && found != uid:
			return "", fmt.Errorf("its cgroups are of two pods, %s and %s", uid, found)
		case err == nil && found != "":
			uid = found
		}
	}
	if uid != "" {
		return uid, nil
	}
	return "", doubt
}

// podOf is the pod of one hierarchy's path.
func (c *Cgroups) podOf(hierarchy, path string) (string, error) {
	place, ok := placeOf(path)
	switch {
	case !ok && mentions(path):
		return "", fmt.Errorf("cgroup %q is not laid out as by a kubelet", path)
	case !ok:
		return "", nil
	case !place.container:
		return "", fmt.Errorf("cgroup %q is none of a container of the pod's, as containerd and CRI-O name them", path)
	}
	if err := c.rootOwns(hierarchy, place.pod); err != nil {
		return "", fmt.Errorf("cgroup %q: %w", path, err)
	}
	return place.uid, nil
}

var errNotShown = errors.New("no cgroup mount here shows it, so that its owner is not known (run weir in the host's cgroup and mount namespaces)")

// rootOwns says why a cgroup, or one above it, may be of others' making, nil where
// all are root's. Of a part of a hierarchy that is all that this program can see,
// that part counts.
func (c *Cgroups) rootOwns(hierarchy, cgroup string) error {
	err := errNotShown
	for _, m := range c.mounts {
		if !m.shows(hierarchy) {
			continue
		}
		folder, ok := m.folder(cgroup)
		if !ok {
			continue
		}
		if err = c.rootOwnsFolder(m, folder); err == nil || !errors.Is(err, errNotShown) {
			return err
		}
	}
	return err
}

// rootOwnsFolder looks at a folder and those above it, up to the mount's top.
func (c *Cgroups) rootOwnsFolder(m mount, folder string) error {
	if err, known := c.owners[folder]; known {
		return err
	}
	err := c.rootOwnsOne(m, folder)
	if err == nil && len(folder) > len(m.point) {
		err = c.rootOwnsFolder(m, folder[:max(strings.LastIndexByte(folder, '/'), len(m.point))])
	}
	c.owners[folder] = err
	return err
}

func (c *Cgroups) rootOwnsOne(m mount, folder string) error {
	at, err := c.stat(folder)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNotShown, err)
	case uint64(at.Dev) != m.device: // another mount covers it
		return errNotShown
	case at.Uid != 0:
		return fmt.Errorf("%s belongs to user %d, not to root: another user may have made what is in it", folder, at.Uid)
	}
	return nil
}
