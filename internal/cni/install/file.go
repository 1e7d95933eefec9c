// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const selinuxLabel = "security.selinux"

// temporary writes a file beside the one that it is to replace, or to become, and brings it to the disk. Its
// name begins with a dot and ends as no list does. It has the owner, the mode and the SELinux label of the
// file that it is to replace.
func temporary(path string, text []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".weir-*.tmp")
	if err != nil {
		return "", err
	}
	name := f.Name()
	err = errors.Join(fill(f, path, text, mode), f.Close())
	if err != nil {
		os.Remove(name)
		return "", err
	}
	return name, nil
}

func fill(f *os.File, path string, text []byte, mode fs.FileMode) error {
	if _, err := f.Write(text); err != nil {
		return err
	}
	var old unix.Stat_t
	if err := unix.Stat(path, &old); err == nil {
		mode = fs.FileMode(old.Mode).Perm()
		if err := f.Chown(int(old.Uid), int(old.Gid)); err != nil {
			return err
		}
		if err := keepLabel(path, f); err != nil {
			return err
		}
	}
	return errors.Join(f.Chmod(mode), f.Sync())
}

// keepLabel gives a file the SELinux label of another one.
func keepLabel(path string, f *os.File) error {
	label := make([]byte, 512)
	n, err := unix.Getxattr(path, selinuxLabel, label)
	if err != nil {
		return nil // it has none: the policy gives a new file one
	}
	if err := unix.Fsetxattr(int(f.Fd()), selinuxLabel, label[:n], 0); err != nil {
		return fmt.Errorf("%s: its SELinux label, %s, cannot be kept: %w (run as a domain that may relabel, such as spc_t)", path, bytes.TrimRight(label[:n], "\x00"), err)
	}
	return nil
}

// replace makes text the content of a file, at once.
func replace(path string, text []byte, mode fs.FileMode) error {
	name, err := temporary(path, text, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(name, path); err != nil {
		os.Remove(name)
		return err
	}
	return syncFolder(path)
}

// syncFolder brings the folder of a file to the disk.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // a file system that has nothing to bring
	}
	return errors.Join(err, d.Close())
}

// readOnly reports whether an error is that a folder cannot be written.
func readOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)
}
