// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// maxFile is how large a file that is read may be, in bytes.
const maxFile = 8 << 20

// readOwn reads a file of the program's own file system.
func readOwn(ctx context.Context, path string) ([]byte, error) {
	return waitFor(ctx, path, func() ([]byte, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		size, err := readable(fd, path)
		if err != nil {
			return nil, err
		}
		return readAll(fd, path, size)
	})
}

// readable is the size of a regular file that is not too large.
func readable(fd int, path string) (size int64, err error) {
	var at unix.Stat_t
	if err := unix.Fstat(fd, &at); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := at.Mode & unix.S_IFMT
	switch {
	case kind != unix.S_IFREG:
		return 0, &FileError{path, "it is " + kindOf(kind) + ", not a regular file"}
	case at.Size > maxFile:
		return 0, tooLarge(path)
	}
	return at.Size, nil
}

func tooLarge(path string) error {
	return &FileError{path, fmt.Sprintf("it is larger than %d MiB", maxFile>>20)}
}

func kindOf(mode uint32) string {
	switch mode {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFLNK:
		return "a link"
	}
	return fmt.Sprintf("of type %#o", mode)
}

// readAll reads a regular file whole. It does without the runtime's poller, which
// would be set up for it alone.
func readAll(fd int, path string, size int64) ([]byte, error) {
	text := make([]byte, 0, size+512) // so that its end is met by the second read
	for {
		text = slices.Grow(text, 512)
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return text, nil
		}
		if text = text[:len(text)+n]; len(text) > maxFile { // it grew
			return nil, tooLarge(path)
		}
	}
}

// waitFor does what a file system of others may hold up for ever (FUSE, NFS), for
// as long as the context allows. What still waits then ends with the program.
func waitFor(ctx context.Context, path string, read func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		text []byte
		err  error
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	done := make(chan answer, 1)
	go func() {
		text, err := read()
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		return a.text, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read %s: it does not answer: %w", path, ctx.Err())
	}
}
