// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// TestDiagnosisRefused: who may not list sockets applies all the same, and is told why
// open connections may be reset.
func TestDiagnosisRefused(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	want := captured(1)
	want.Table.Sets = append(want.Table.Sets, continuity.OpenSet(rules.IPv4))
	for _, row := range []struct {
		why    string
		refuse unix.Errno
		says   string
	}{
		{"a seccomp filter", unix.EPERM, "sock_diag: socket: operation not permitted"},
		{"SELinux", unix.EACCES, "sock_diag: socket: permission denied"},
		{"a sandbox that has no such family", unix.EAFNOSUPPORT, "sock_diag: socket: address family not supported"},
		{"a kernel without it", unix.EPROTONOSUPPORT, "CONFIG_INET_TCP_DIAG"},
	} {
		var c *Conn
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the filter goes with the thread
			err := refuseDiagnosis(row.refuse)
			if err == nil {
				c, err = Open(0)
			}
			done <- err
		}()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", row.why, err)
			continue
		}
		session := c.Session("weir", "test")
		result, err := session.Apply(t.Context(), want)
		if err != nil || result.Outcome != Created || result.Unlisted == nil || !strings.Contains(result.Unlisted.Error(), row.says) {
			t.Errorf("%s: %s, %v, %v", row.why, result.Outcome, err, result.Unlisted)
		}
		drained, err := session.Drain(t.Context(), 2*drainPause, func(Captured) {})
		if err != nil || drained.Outcome != Removed || drained.Uncounted == nil {
			t.Errorf("%s: a drain: %s, %v, %v", row.why, drained.Outcome, err, drained.Uncounted)
		}
		c.Close()
	}
}

// refuseDiagnosis has the kernel refuse this thread sockets of sock_diag.
func refuseDiagnosis(with unix.Errno) error {
	const number, family, protocol = 0, 16, 32 // in struct seccomp_data, where the arguments' low halves come first
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return errors.ErrUnsupported
	}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 5, K: unix.SYS_SOCKET},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: family},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.AF_NETLINK},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: protocol},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.NETLINK_SOCK_DIAG},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(with)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
}
