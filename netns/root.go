// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// root is the root directory of another process.
type root struct {
	dir     *os.File // O_PATH
	path    string   // for messages
	process *Process
}

// read reads a file below the root. Whatever the process put there, no link leads
// out of its root, nothing but a regular file is opened, and nothing is opened by
// its name twice.
func (r *root) read(ctx context.Context, path string) ([]byte, error) {
	shown := r.path + path
	return waitFor(ctx, shown, func() ([]byte, error) {
		found, err := r.find(path)
		if err != nil {
			return nil, err
		}
		defer unix.Close(found)
		size, err := readable(found, shown)
		if err != nil {
			return nil, err
		}
		if size == 0 {
			// It is empty, or a file of the kernel's (tracefs), whose readers may wait.
			return nil, nil
		}
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", found), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil, &FileError{shown, "another process holds a lease on it"}
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: shown, Err: err}
		}
		defer unix.Close(fd)
		return readAll(fd, shown, size)
	})
}
