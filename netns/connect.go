// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/internal/bpf"
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

// ConnectPrograms are those in force for the cgroup at the root of the mounted cgroups,
// its ancestors' included. It takes CAP_NET_ADMIN in the machine's initial user
// namespace (bpf_prog_query): the error is unix.EPERM without, or ErrNoCgroup.
func ConnectPrograms() ([]ConnectProgram, error) {
	if first, err := bpf.NextID(0); err == nil && first == 0 {
		return nil, nil // no program of any kind is loaded
	}
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
		ids, err := bpf.Attached(fd, hook.attach, unix.BPF_F_QUERY_EFFECTIVE)
		if err != nil {
			return nil, fmt.Errorf("ask for the programs on %s: %w", hook.name, err)
		}
		for _, id := range ids {
			out = append(out, ConnectProgram{hook.name, id, programName(id)})
		}
	}
	return out, nil
}

// programName is the name of a loaded program, "" where it is not told.
func programName(id uint32) string {
	fd, err := bpf.ByID(id)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := bpf.InfoOf(fd)
	if err != nil {
		return ""
	}
	return info.Name
}
