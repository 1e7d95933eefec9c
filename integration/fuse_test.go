// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Requests of a FUSE file system, see linux/fuse.h.
const (
	fuseLookup    = 1
	fuseForget    = 2
	fuseGetattr   = 3
	fuseOpen      = 14
	fuseRead      = 15
	fuseStatfs    = 17
	fuseInit      = 26
	fuseOpendir   = 27
	fuseInterrupt = 36
)

// fuse is a file system of one folder, in which each name is a small file, that
// leaves one kind of request without an answer.
type fuse struct {
	fd     int
	device *os.File // once it is mounted
	silent uint32
}

func newFuse(t *testing.T, silent uint32) *fuse {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no file system can be served: %v", err)
	}
	f := &fuse{fd: fd, silent: silent}
	t.Cleanup(func() {
		if f.device == nil {
			unix.Close(fd)
		}
	})
	return f
}

// mount serves the file system at a folder, until the test is over.
func (f *fuse) mount(t *testing.T, at string) error {
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", f.fd)
	if err := unix.Mount("weir-test", at, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount a file system of the test's: %w", err)
	}
	// Not before: the device of no file system has nothing to poll.
	f.device = os.NewFile(uintptr(f.fd), "/dev/fuse")
	// Whoever waits for an answer when it is closed gets an error.
	limit := time.AfterFunc(time.Minute, func() { f.device.Close() })
	t.Cleanup(func() { limit.Stop(); f.device.Close() })
	go f.serve()
	return nil
}

func (f *fuse) serve() {
	request := make([]byte, 1<<17)
	for {
		n, err := f.device.Read(request)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT):
			continue // what was asked is given up
		case err != nil || n < 40:
			return // it was unmounted
		}
		opcode, unique := binary.LittleEndian.Uint32(request[4:]), binary.LittleEndian.Uint64(request[8:])
		node := binary.LittleEndian.Uint64(request[16:])
		if opcode == f.silent || opcode == fuseForget || opcode == fuseInterrupt {
			continue
		}
		answer, errno := f.answer(opcode, node)
		reply := make([]byte, 16, 16+len(answer))
		binary.LittleEndian.PutUint32(reply, uint32(16+len(answer)))
		binary.LittleEndian.PutUint32(reply[4:], uint32(-int32(errno)))
		binary.LittleEndian.PutUint64(reply[8:], unique)
		_, _ = f.device.Write(append(reply, answer...)) // the caller may have given up
	}
}

func (f *fuse) answer(opcode uint32, node uint64) ([]byte, unix.Errno) {
	le := binary.LittleEndian
	switch opcode {
	case fuseInit:
		out := make([]byte, 64)
		le.PutUint32(out, 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[20:], 1<<16) // of a write
		return out, 0
	case fuseLookup:
		out := make([]byte, 128)
		le.PutUint64(out, 2) // the file
		putAttributes(out[40:], 2)
		return out, 0
	case fuseGetattr:
		out := make([]byte, 104)
		putAttributes(out[16:], node)
		return out, 0
	case fuseStatfs:
		return make([]byte, 80), 0
	case fuseOpen, fuseOpendir:
		return make([]byte, 16), 0
	}
	return nil, unix.ENOSYS
}

func putAttributes(out []byte, node uint64) {
	le := binary.LittleEndian
	mode := uint32(unix.S_IFDIR | 0o755)
	if node != 1 {
		mode = unix.S_IFREG | 0o644
		le.PutUint64(out[8:], 100) // bytes
	}
	le.PutUint64(out, node)
	le.PutUint32(out[60:], mode)
	le.PutUint32(out[64:], 1) // name
}
