// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// splice(2) takes more system calls than reading and writing, which costs more than it saves for a few
// kilobytes. Most streams are no longer than that.
const (
	streamBuffer = 16 << 10
	spliceAfter  = 64 << 10
)

// newBuffers is a pool of *[]byte of one size.
func newBuffers(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, size)
		return &b
	}}
}

// copyStream writes to dst what src sends until the end of its stream, and returns how much that was.
func copyStream(dst, src *net.TCPConn, buffers *sync.Pool) (n int64, err error) {
	for n < spliceAfter {
		some, err := copySome(dst, src, buffers)
		n += int64(some)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	// Between two TCP connections io.Copy is splice(2): the data stays in the kernel.
	rest, err := io.Copy(dst, src)
	return n + rest, err
}

// copySome waits for src to send something, and writes it to dst. The error is [io.EOF] at the end of
// the stream. It has no buffer while it waits, so that quiet connections cost no memory.
func copySome(dst, src *net.TCPConn, buffers *sync.Pool) (n int, err error) {
	raw, err := src.SyscallConn()
	if err != nil {
		return 0, err
	}
	var buffer *[]byte
	var sockErr error
	if err := raw.Read(func(fd uintptr) (done bool) {
		buffer = buffers.Get().(*[]byte)
		n, sockErr = readOnce(int(fd), *buffer)
		if done = sockErr != unix.EAGAIN; !done {
			buffers.Put(buffer)
		}
		return done
	}); err != nil {
		return 0, err
	}
	defer buffers.Put(buffer)
	switch {
	case sockErr != nil:
		return 0, os.NewSyscallError("read", sockErr)
	case n == 0:
		return 0, io.EOF
	}
	return dst.Write((*buffer)[:n])
}

func readOnce(fd int, buffer []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, buffer); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
