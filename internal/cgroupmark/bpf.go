//go:build linux

package cgroupmark

import (
	"bytes"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The parts of union bpf_attr of linux/bpf.h that are needed here.
type (
	loadAttr struct {
		typ, count    uint32
		code, license uint64
		logLevel      uint32
		logSize       uint32
		log           uint64
		version       uint32
		flags         uint32
		name          [unix.BPF_OBJ_NAME_LEN]byte
		ifindex       uint32
		expected      uint32
	}
	attachAttr struct{ target, program, typ, flags uint32 }
	queryAttr  struct {
		target, typ, flags, attachFlags uint32
		ids                             uint64
		count                           uint32
		_                               uint32
	}
	idAttr   struct{ id, next, flags uint32 }
	infoAttr struct {
		fd, length uint32
		info       uint64
	}
	// programInfo is the beginning of struct bpf_prog_info.
	programInfo struct {
		typ, id         uint32
		tag             [unix.BPF_TAG_SIZE]byte
		jitedLen, xlLen uint32
		jited, xlated   uint64
		loadTime        uint64
		uid, maps       uint32
		mapIDs          uint64
		name            [unix.BPF_OBJ_NAME_LEN]byte
	}
)

func (i programInfo) nameText() string {
	name, _, _ := bytes.Cut(i.name[:], []byte{0})
	return string(name)
}

func infoOf(fd int) (info programInfo, err error) {
	_, err = bpf(unix.BPF_OBJ_GET_INFO_BY_FD, infoAttr{uint32(fd), uint32(unsafe.Sizeof(info)), pointer(&info)})
	runtime.KeepAlive(&info)
	return info, err
}

func pointer[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// bpf calls bpf(2).
func bpf[T any](command uintptr, attr T) (int, error) {
	return bpfAt(command, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func bpfAt(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
		if errno == unix.EAGAIN || errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return -1, errno
		}
		return int(r), nil
	}
}
