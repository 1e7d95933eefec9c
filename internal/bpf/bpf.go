// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package bpf speaks bpf(2), as far as programs that are attached to cgroups need it. The layouts
// mirror union bpf_attr and struct bpf_prog_info of linux/bpf.h.
package bpf

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxAttached is how many programs one hook of a cgroup holds (BPF_CGROUP_MAX_PROGS).
const maxAttached = 64

// Info is what a loaded program tells of itself.
type Info struct {
	Name string // that its maker gave it; "" without
	Tag  [unix.BPF_TAG_SIZE]byte
}

// Program is what [Load] has the kernel check.
type Program struct {
	Kind, Attach uint32 // BPF_PROG_TYPE_* and BPF_CGROUP_*
	Name         string // at most 15 letters, digits and underscores
	License      string
	Code         []byte // whole instructions of 8 bytes
}

// Load loads a program and returns its descriptor.
func Load(p Program) (fd int, err error) {
	license := append([]byte(p.License), 0)
	pins := new(runtime.Pinner)
	defer pins.Unpin()
	attr := struct {
		kind, count   uint32
		code, license uint64
		_             [2]uint32 // log_level, log_size
		_             uint64    // log_buf
		_             [2]uint32 // kern_version, prog_flags
		name          [unix.BPF_OBJ_NAME_LEN]byte
		_             uint32 // prog_ifindex
		attach        uint32
	}{kind: p.Kind, count: uint32(len(p.Code) / 8), code: pinned(pins, &p.Code[0]), license: pinned(pins, &license[0]), attach: p.Attach}
	copy(attr.name[:len(attr.name)-1], p.Name)
	return call(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

// Attach attaches a program to a cgroup beside those that are there.
func Attach(cgroup, program int, hook uint32) error {
	return attachment(unix.BPF_PROG_ATTACH, cgroup, program, hook, unix.BPF_F_ALLOW_MULTI)
}

// Detach takes a program off a cgroup.
func Detach(cgroup, program int, hook uint32) error {
	return attachment(unix.BPF_PROG_DETACH, cgroup, program, hook, 0)
}

func attachment(command uintptr, cgroup, program int, hook, flags uint32) error {
	attr := [4]uint32{uint32(cgroup), uint32(program), hook, flags}
	_, err := call(command, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return err
}

// Attached are the ids of the programs on a hook of a cgroup. flags: 0, or BPF_F_QUERY_EFFECTIVE
// for those in force, the ancestors' included.
func Attached(cgroup int, hook, flags uint32) ([]uint32, error) {
	ids := make([]uint32, maxAttached)
	pins := new(runtime.Pinner)
	defer pins.Unpin()
	attr := struct {
		cgroup, hook, flags, _ uint32
		ids                    uint64
		count, _               uint32
	}{cgroup: uint32(cgroup), hook: hook, flags: flags, ids: pinned(pins, &ids[0]), count: maxAttached}
	if _, err := call(unix.BPF_PROG_QUERY, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return nil, err
	}
	return ids[:min(attr.count, maxAttached)], nil
}

// NextID is the id of the loaded program that follows an id, 0 where there is none. It takes
// CAP_SYS_ADMIN.
func NextID(id uint32) (uint32, error) {
	attr := [3]uint32{id} // start_id, next_id, open_flags
	_, err := call(unix.BPF_PROG_GET_NEXT_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return attr[1], err
}

// ByID opens a loaded program. The error is unix.ENOENT where it is gone.
func ByID(id uint32) (fd int, err error) {
	attr := [3]uint32{id} // id, next_id, open_flags
	return call(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

// InfoOf is what the program of a descriptor tells of itself.
func InfoOf(fd int) (Info, error) {
	const size, tagAt, nameAt = 128, 8, 64
	raw := make([]byte, size)
	pins := new(runtime.Pinner)
	defer pins.Unpin()
	attr := struct {
		fd, length uint32
		info       uint64
	}{uint32(fd), size, pinned(pins, &raw[0])}
	if _, err := call(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return Info{}, err
	}
	name, _, _ := bytes.Cut(raw[nameAt:nameAt+unix.BPF_OBJ_NAME_LEN], []byte{0})
	return Info{string(name), [unix.BPF_TAG_SIZE]byte(raw[tagAt:])}, nil
}

// pinned is the address of a value that the kernel reads or writes by a field of 64 bits, kept in
// its place until the pinner lets go.
func pinned[T any](pins *runtime.Pinner, p *T) uint64 {
	pins.Pin(p)
	return uint64(uintptr(unsafe.Pointer(p)))
}

func call(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	const tries = 10 // the kernel's verifier answers EAGAIN where a signal came between
	for n := 1; ; n++ {
		r, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
		switch {
		case errno == 0:
			return int(r), nil
		case n < tries && (errors.Is(errno, unix.EAGAIN) || errors.Is(errno, unix.EINTR)):
		default:
			return -1, os.NewSyscallError("bpf", errno)
		}
	}
}
