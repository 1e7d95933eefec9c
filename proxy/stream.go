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

// copyStream writes to dst what src sends until the end of its stream, and returns how much that was. The caller passes
// the end on at once, which the last bytes may have waited for.
func copyStream(dst, src *net.TCPConn, buffers *sync.Pool) (n int64, err error) {
	raw, err := src.SyscallConn()
	if err != nil {
		return 0, err
	}
	var found error // io.EOF at the end
	if err := raw.Read(func(fd uintptr) (done bool) {
		// Only while there is something to copy, so that quiet connections cost no memory.
		buffer := buffers.Get().(*[]byte)
		defer buffers.Put(buffer)
		for found == nil && n < spliceAfter {
			var some int
			some, found = readAvailable(int(fd), *buffer)
			if some > 0 {
				written, err := writeTo(dst, (*buffer)[:some], found == io.EOF)
				n += int64(written)
				if err != nil {
					found = err
				}
			}
			if found == unix.EAGAIN {
				found = nil
				return false
			}
		}
		return true
	}); err != nil {
		return n, err
	}
	switch {
	case errors.Is(found, io.EOF):
		return n, nil
	case found != nil:
		return n, found
	}
	// Between two TCP connections io.Copy is splice(2): the data stays in the kernel.
	rest, err := io.Copy(dst, src)
	return n + rest, err
}

// readAvailable reads what there is, until the buffer is full. The error is EAGAIN where there may be more later, and
// [io.EOF] at the end of the stream.
func readAvailable(fd int, buffer []byte) (n int, err error) {
	for n < len(buffer) {
		some, err := unix.Read(fd, buffer[n:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return n, err
		case err != nil:
			return n, os.NewSyscallError("read", err)
		case some == 0:
			return n, io.EOF
		default:
			n += some
		}
	}
	return n, nil
}

// writeTo writes data. The last of a stream may wait for its end, which then takes no packet of its own.
func writeTo(dst *net.TCPConn, data []byte, last bool) (n int, err error) {
	if !last {
		return dst.Write(data)
	}
	raw, err := dst.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sockErr error
	err = raw.Write(func(fd uintptr) (done bool) {
		for n < len(data) {
			some, err := unix.SendmsgN(int(fd), data[n:], nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return false
			case err != nil:
				sockErr = os.NewSyscallError("sendmsg", err)
				return true
			default:
				n += some
			}
		}
		return true
	})
	return n, errors.Join(err, sockErr)
}
