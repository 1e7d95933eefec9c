package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// root is the root directory of another process.
type root struct {
	dir  *os.File // O_PATH
	path string   // for messages
}

// maxResolveRetries bounds how often a path is resolved again because something was
// renamed meanwhile, which the kernel cannot tell from an escape by "..".
const maxResolveRetries = 64

// read reads a file below the root. Whatever the process put there, no link leads
// out of its root, nothing but a regular file is opened, and nothing is opened by
// its name twice.
func (r *root) read(ctx context.Context, path string) ([]byte, error) {
	shown := r.path + path
	return waitFor(ctx, shown, func() ([]byte, error) {
		found, err := r.find(path)
		if err != nil {
			return nil, whyNotFound(shown, err)
		}
		defer unix.Close(found)
		size, err := readable(found, shown)
		if err != nil {
			return nil, err
		}
		if size == 0 {
			// It is empty, or a file of the kernel's (proc, tracefs): those make
			// readers wait, and tell of the reader.
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
		return readAll(fd, shown)
	})
}

// find is a descriptor of what a path leads to, which can be looked at and not read.
func (r *root) find(path string) (fd int, err error) {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range maxResolveRetries {
		fd, err = unix.Openat2(int(r.dir.Fd()), strings.TrimPrefix(path, "/"), how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}

func whyNotFound(path string, err error) error {
	switch {
	case errors.Is(err, unix.ELOOP):
		return &FileError{path, "its links lead in a circle, or through a link of /proc that leads out of the process's root"}
	case errors.Is(err, unix.EAGAIN):
		return &FileError{path, "directories on its way are being renamed all the time"}
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return &FileError{path, fmt.Sprintf("openat2(2) is refused (%v), by a seccomp profile older than the call: allow it there, or write numbers and addresses into the configuration", err)}
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}
