// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Process is a handle of a process: a descriptor of its directory in /proc. What
// is read through it is that process's, or an error that matches ErrNotExist once
// it has ended, even if another process has its process ID then.
type Process struct {
	PID int
	dir *os.File
}

// OpenProcess takes a handle of a process.
func OpenProcess(pid int) (*Process, error) {
	path := "/proc/" + strconv.Itoa(pid)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, notThere("open", path+"/ns/net", err)
	}
	return &Process{pid, os.NewFile(uintptr(fd), path)}, nil
}

// Close lets go of the handle.
func (p *Process) Close() { p.dir.Close() }

// OfProcess opens the network namespace of a process by its PID as /proc of this program has
// it, and the process's root for [Namespace.ReadEtc]. The error matches [ErrNotExist] where
// there is no such process or it has ended, and fs.ErrPermission where it may not be looked
// into: another user's takes CAP_SYS_PTRACE.
func OfProcess(pid int) (*Namespace, error) {
	p, err := OpenProcess(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Namespace()
}

// again is another handle of the same process.
func (p *Process) again() (*Process, error) {
	fd, err := unix.FcntlInt(p.dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Process{p.PID, os.NewFile(uintptr(fd), p.dir.Name())}, nil
}

// Namespace opens the network namespace and the root of the process, which it was
// in at the same time.
func (p *Process) Namespace() (*Namespace, error) {
	path := p.path("ns/net")
	fd, err := p.open("ns/net", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	file, err := checkNetns(fd, path)
	if err != nil {
		return nil, err
	}
	n := &Namespace{file: file}
	dir, err := p.open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		n.Close()
		return nil, err
	}
	process, err := p.again()
	if err != nil {
		unix.Close(dir)
		n.Close()
		return nil, err
	}
	n.root = &root{os.NewFile(uintptr(dir), p.path("root")), p.path("root"), process}
	opened, err := n.Inode()
	if err == nil {
		var now uint64
		if now, err = p.Netns(); err == nil && now != opened {
			err = fmt.Errorf("process %d changed its network namespace meanwhile: %w", p.PID, ErrNotExist)
		}
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Netns is the inode number of the network namespace that the process is in.
func (p *Process) Netns() (uint64, error) {
	var at unix.Stat_t
	if err := unix.Fstatat(int(p.dir.Fd()), "ns/net", &at, 0); err != nil {
		return 0, notThere("stat", p.path("ns/net"), err)
	}
	return at.Ino, nil
}

// ReadFile reads a file of the process's directory in /proc, or as much as is read of
// any file.
func (p *Process) ReadFile(name string) ([]byte, error) {
	fd, err := p.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), p.path(name))
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if errors.Is(err, unix.ESRCH) {
		err = fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	return text, err
}

func (p *Process) open(name string, flags int) (int, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, notThere("open", p.path(name), err)
	}
	return fd, nil
}

func (p *Process) path(name string) string { return p.dir.Name() + "/" + name }

// Status is what a process's status file tells of it, see proc_pid_status(5).
type Status struct {
	Name   string
	Parent int
	FSUID  uint32 // that of the sockets that it opens
	Memory bool   // of its own: neither a thread of the kernel's nor a process that ended
}

// Status reads the status of the process.
func (p *Process) Status() (Status, error) {
	text, err := p.ReadFile("status")
	if err != nil {
		return Status{}, err
	}
	var s Status
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		fields := strings.Fields(value)
		switch {
		case key == "Name":
			s.Name = strings.TrimSpace(value)
		case key == "VmSize":
			s.Memory = true
		case key == "PPid" && len(fields) == 1:
			s.Parent, _ = strconv.Atoi(fields[0])
		case key == "Uid" && len(fields) == 4:
			uid, _ := strconv.ParseUint(fields[3], 10, 32)
			s.FSUID = uint32(uid)
		}
	}
	return s, nil
}

// PIDs are the processes that /proc lists, in order.
func PIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
