// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"testing"

	"github.com/weir-mesh/weir/internal/bpf"
	"golang.org/x/sys/unix"
)

// hook is where a cgroup's program is asked.
type hook struct{ kind, attach uint32 }

var (
	connect4   = hook{unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, unix.BPF_CGROUP_INET4_CONNECT}
	connect6   = hook{unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, unix.BPF_CGROUP_INET6_CONNECT}
	bind4      = hook{unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, unix.BPF_CGROUP_INET4_BIND}
	sockCreate = hook{unix.BPF_PROG_TYPE_CGROUP_SOCK, unix.BPF_CGROUP_INET_SOCK_CREATE}
)

// allowing is a program that changes nothing: r0 = 1; exit.
var allowing = []byte{0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0}

// attached has the command run below a cgroup with a program of that name on the hook.
func attached(h hook, name string) func(*cli) {
	return func(c *cli) {
		c.Helper()
		t := c.TB.(*testing.T)
		c.cgroup = needCgroupTree(t).make("pod")
		program, err := bpf.Load(bpf.Program{Kind: h.kind, Attach: h.attach, Name: name, License: "GPL", Code: allowing})
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
			t.Skip(err) // not in the initial user namespace, or a kernel without CONFIG_CGROUP_BPF
		}
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(program)
		folder, err := unix.Open(c.cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(folder)
		if err := bpf.Attach(folder, program, h.attach); err != nil { // it goes with the cgroup
			t.Fatal(err)
		}
	}
}
