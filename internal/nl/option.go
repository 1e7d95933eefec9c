// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Getsockopt reads a socket option of any kind into the buffer, which the kernel is
// told the length of. The buffer must not be empty.
func Getsockopt(fd, level, name int, buffer []byte) error {
	length := uint32(len(buffer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
