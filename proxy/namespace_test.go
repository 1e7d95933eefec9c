// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namespaceEnv names the test that a child process has been started for.
const namespaceEnv = "WEIR_PROXY_TEST_NAMESPACE"

func TestMain(m *testing.M) {
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, "lo:", err)
		os.Exit(1)
	}
	m.Run()
}

// inNamespace reports whether the test runs in a network namespace of its own, with lo up and the
// capabilities to set rules there. Where it does not, the test is run again in a child process that
// does (every thread of it, whichever goroutine opens a socket), and takes over its outcome: the
// caller just returns.
func inNamespace(t *testing.T, programs ...string) bool {
	t.Helper()
	if os.Getenv(namespaceEnv) == t.Name() {
		return true
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			skip(t, "%v", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	output, err := runIsolated(t.Context(), self, t.Name(), &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	if errors.Is(err, unix.EPERM) {
		output, err = runIsolated(t.Context(), self, t.Name(), &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWNET | unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		})
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Fatalf("in its namespace: %v\n%s", err, output)
	case err != nil:
		skip(t, "no network namespace to be had: %v", err)
	}
	return false
}

// isolatedPatience is far more than any test needs.
const isolatedPatience = 3 * time.Minute

func runIsolated(ctx context.Context, self, test string, attr *syscall.SysProcAttr) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, isolatedPatience)
	defer cancel()
	attr.Pdeathsig = syscall.SIGKILL
	cmd := exec.CommandContext(ctx, self, "-test.run=^"+regexp.QuoteMeta(test)+"$", "-test.count=1", "-test.v")
	// The race detector would have each child sleep for a second at its end.
	cmd.Env = append(os.Environ(), namespaceEnv+"="+test, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	cmd.SysProcAttr = attr
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// skip is a failure in CI, where every kernel test has to run.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// loopbackUp is for fresh namespaces, where lo is down: those of inNamespace, and of unshare(1).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil {
		return os.NewSyscallError("SIOCGIFFLAGS", err)
	}
	if lo.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}

// ip runs ip(8) once for each line, and waits until addresses that it adds are of use: the kernel
// makes the route of an IPv6 address a moment later.
func ip(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		words := strings.Fields(line)
		runIP(t, words...)
		if words[0] != "address" {
			continue
		}
		addr, _, _ := strings.Cut(words[2], "/")
		family := "-4"
		if strings.Contains(addr, ":") {
			family = "-6"
		}
		for deadline := time.Now().Add(patience); runIP(t, family, "route", "show", "table", "local", addr) == ""; {
			if time.Now().After(deadline) {
				t.Fatalf("%s has no route", addr)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func runIP(t *testing.T, words ...string) string {
	t.Helper()
	output, err := exec.Command("ip", words...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(words, " "), err, output)
	}
	return string(output)
}

// nft loads a ruleset.
func nft(t *testing.T, ruleset string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, output)
	}
}

func writeSysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}
