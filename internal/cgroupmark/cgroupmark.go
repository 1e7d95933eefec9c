// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package cgroupmark gives a mark to every socket that is made in a cgroup, by a program of four
// instructions at BPF_CGROUP_INET_SOCK_CREATE: for a proxy that cannot mark its sockets. Listeners
// have it too, and so has what they accept. Nothing is pinned: the kernel keeps the program as long
// as the cgroup, and it is found again by its name and its tag.
package cgroupmark

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/weir-mesh/weir/internal/bpf"
	"golang.org/x/sys/unix"
)

const (
	hook   = unix.BPF_CGROUP_INET_SOCK_CREATE
	prefix = "weir_" // of the names of programs
)

// Program is what one table's program in a cgroup is to be.
type Program struct {
	Cgroup string // its folder
	Name   string // see [NameOf]
	Mark   uint32
}

// NameOf is the name of the program of a table in a network namespace, which its inode tells
// from others: at most 15 letters, digits and underscores (BPF_OBJ_NAME_LEN).
func NameOf(table string, namespace uint64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", namespace, table))
	return fmt.Sprintf("%s%x", prefix, sum[:5])
}

// NameOfContainer is the name of the program in the cgroup of a container's whose pod has that network namespace: another
// than that of a table's programs, which whoever applies the table looks after.
func NameOfContainer(namespace uint64) string { return NameOf("of a container", namespace) }

// Supported is why no program can be attached by this process, nil where one can: that it is in
// a container, whose proxy's cgroup ends with each restart.
func Supported() error {
	const initial = 0xEFFFFFFB // PROC_CGROUP_INIT_INO of linux/proc_ns.h
	var s unix.Stat_t
	if err := unix.Stat("/proc/self/ns/cgroup", &s); err == nil && s.Ino != initial {
		return errors.New("is for hosts and virtual machines: in a container the proxy's cgroup does not exist yet, and ends with each restart")
	}
	return nil
}

// Attach attaches the program, unless it is there already, and reports whether it did. Another one
// of the name, with another mark, is detached after that, so that no socket is left without.
func (p Program) Attach() (changed bool, err error) {
	own, err := p.load()
	if err != nil {
		return false, p.failed("load", err)
	}
	defer unix.Close(own)
	info, err := bpf.InfoOf(own)
	if err != nil {
		return false, p.failed("load", err)
	}
	have, err := p.attached()
	if err != nil {
		return false, err
	}
	kept := slices.IndexFunc(have, func(h held) bool { return h.tag == info.Tag })
	if kept < 0 {
		dir, err := os.Open(p.Cgroup)
		if err != nil {
			return false, p.failed("attach", err)
		}
		defer dir.Close()
		if err := bpf.Attach(int(dir.Fd()), own, hook); err != nil {
			return false, p.failed("attach", err)
		}
	}
	for i, h := range have {
		if i == kept {
			continue
		}
		if err := p.detach(h.id); err != nil {
			return true, err
		}
	}
	return kept < 0 || len(have) > 1, nil
}

// Attached reports whether the program is there, and how many others of the name are.
func (p Program) Attached() (is bool, others int, err error) {
	own, err := p.load()
	if err != nil {
		return false, 0, p.failed("load", err)
	}
	defer unix.Close(own)
	info, err := bpf.InfoOf(own)
	if err != nil {
		return false, 0, p.failed("load", err)
	}
	have, err := p.attached()
	for _, h := range have {
		if h.tag == info.Tag && !is {
			is = true
		} else {
			others++
		}
	}
	return is, others, err
}

func (p Program) failed(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w (it takes CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN)", err)
	}
	return fmt.Errorf("%s the program that marks the sockets of cgroup %s: %w", what, p.Cgroup, err)
}

func (p Program) detach(id uint32) error {
	dir, err := os.Open(p.Cgroup)
	if err != nil {
		return p.failed("detach", err)
	}
	defer dir.Close()
	fd, err := bpf.ByID(id)
	if err != nil {
		return p.failed("detach", err)
	}
	defer unix.Close(fd)
	if err := bpf.Detach(int(dir.Fd()), fd, hook); err != nil {
		return p.failed("detach", err)
	}
	return nil
}

// load has the kernel check the program: it writes the mark to the socket (bpf_sock.mark of
// linux/bpf.h, which this kind of program may write) and lets it be made.
func (p Program) load() (fd int, err error) {
	const (
		moveImmediate = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
		storeWord     = unix.BPF_STX | unix.BPF_MEM | unix.BPF_W
		markOffset    = 16
	)
	var code []byte
	instruction := func(op, dst, src byte, offset int16, value uint32) {
		registers := src<<4 | dst
		if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
			registers = dst<<4 | src // bit-fields of struct bpf_insn, from the other end
		}
		code = append(code, op, registers)
		code = binary.NativeEndian.AppendUint16(code, uint16(offset))
		code = binary.NativeEndian.AppendUint32(code, value)
	}
	instruction(moveImmediate, 2, 0, 0, p.Mark)
	instruction(storeWord, 1, 2, markOffset, 0)
	instruction(moveImmediate, 0, 0, 0, 1)
	instruction(unix.BPF_JMP|unix.BPF_EXIT, 0, 0, 0, 0)
	return bpf.Load(bpf.Program{Kind: unix.BPF_PROG_TYPE_CGROUP_SOCK, Attach: hook, Name: p.Name, License: "Apache-2.0", Code: code})
}
