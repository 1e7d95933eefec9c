// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package integration tests the whole of weir against real kernels: states are
// applied, disturbed, raced, killed and taken out again in network namespaces
// that live no longer than their test.
//
// The tests run nft(8) and ip(8), to disturb and to judge: the product never
// does. WEIR_SOAK=1 makes the long ones long.
package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	insideEnv = "WEIR_TEST_INSIDE" // set once the test binary is in its own namespace
	roleEnv   = "WEIR_TEST_ROLE"   // what a child of a test does instead of testing
)

// notIsolated is why there can be no network namespace, nil where there can.
var notIsolated error

// TestMain moves the whole test binary into a network namespace of its own, so
// that a mistake in a test cannot reach the machine's.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	if os.Getenv(insideEnv) == "" {
		code, err := runInside()
		if err == nil {
			os.Exit(code)
		}
		notIsolated = err
	}
	os.Exit(m.Run())
}

func runInside() (code int, err error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = isolation(os.Getuid() != 0)
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	var exit *exec.ExitError
	if err = cmd.Run(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// isolation starts a process in a network namespace of its own, and in a user
// namespace in which it is root.
func isolation(user bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if user {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// roles are what children of tests do, by name. They talk over standard input
// and output, a line at a time.
var roles = map[string]func() error{
	"apply":     playApply,
	"banner":    playBanner,
	"datagrams": playDatagrams,
	"land":      playLand,
	"reaper":    playReaper,
	"churn":     playChurn,
	"hoard":     playHoard,
	"own":       playOwn,
	"verify":    playVerify,
	"large":     playLarge,
	"unable":    playUnable,
	"nest":      playNest,
}

func play(name string) int {
	role := roles[name]
	if role == nil {
		fmt.Fprintf(os.Stderr, "there is no role %q\n", name)
		return 2
	}
	if err := role(); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
