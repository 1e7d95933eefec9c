//go:build linux

package netns

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ConnectProgram is a BPF program that the kernel asks before a socket connects: it may
// change where to (BPF_PROG_TYPE_CGROUP_SOCK_ADDR).
type ConnectProgram struct {
	Attach string // connect4 or connect6
	ID     uint32
	Name   string // that its maker gave it; "" where that takes more privileges
}

// ErrNoCgroup means that no cgroup of version 2 is mounted where this program sees it.
var ErrNoCgroup = errors.New("no cgroup2 is mounted here")

const maxConnectPrograms = 64 // on one hook: BPF_CGROUP_MAX_PROGS of include/linux/bpf-cgroup-defs.h

// ConnectPrograms are those in force for the cgroup at the root of the mounted cgroups,
// its ancestors' included. It takes CAP_NET_ADMIN in the machine's initial user
// namespace (bpf_prog_query): the error is unix.EPERM without, or ErrNoCgroup.
func ConnectPrograms() ([]ConnectProgram, error) {
	root, err := Cgroup2Mount()
	if err != nil || root == "" {
		return nil, errors.Join(ErrNoCgroup, err)
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root of cgroups: %w", err)
	}
	defer unix.Close(fd)
	var out []ConnectProgram
	for _, hook := range []struct {
		name   string
		attach uint32
	}{{"connect4", unix.BPF_CGROUP_INET4_CONNECT}, {"connect6", unix.BPF_CGROUP_INET6_CONNECT}} {
		ids, err := attachedPrograms(fd, hook.attach)
		if err != nil {
			return nil, fmt.Errorf("ask for the programs on %s: %w", hook.name, err)
		}
		for _, id := range ids {
			out = append(out, ConnectProgram{hook.name, id, programName(id)})
		}
	}
	return out, nil
}

// attachedPrograms are the ids of the programs in force on a hook of a cgroup.
func attachedPrograms(cgroup int, attach uint32) ([]uint32, error) {
	ids := make([]uint32, maxConnectPrograms)
	var pinned runtime.Pinner
	defer pinned.Unpin()
	pinned.Pin(&ids[0])
	query := struct { // of union bpf_attr, linux/bpf.h
		target, attach, flags, attachFlags uint32
		ids                                uint64
		count, _                           uint32
	}{target: uint32(cgroup), attach: attach, flags: unix.BPF_F_QUERY_EFFECTIVE, ids: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: uint32(len(ids))}
	if _, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return nil, err
	}
	return ids[:min(int(query.count), len(ids))], nil
}

// programName is the name of a loaded program, "" where it is not told.
func programName(id uint32) string {
	byID := struct{ id, next, flags uint32 }{id: id}
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&byID), unsafe.Sizeof(byID))
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	const size, nameAt, nameSize = 128, 64, 16 // of struct bpf_prog_info
	info := make([]byte, size)
	var pinned runtime.Pinner
	defer pinned.Unpin()
	pinned.Pin(&info[0])
	query := struct {
		fd, length uint32
		info       uint64
	}{uint32(fd), size, uint64(uintptr(unsafe.Pointer(&info[0])))}
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return ""
	}
	name := info[nameAt : nameAt+nameSize]
	if end := slices.Index(name, 0); end >= 0 {
		name = name[:end]
	}
	return string(name)
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
