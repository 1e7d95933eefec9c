// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"errors"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Test is a test, as *testing.T has it: package testing is not part of programs.
type Test interface {
	Helper()
	Cleanup(func())
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// ForTest makes a namespace for a test, or skips the test where that is not allowed.
func ForTest(t Test) *Namespace {
	t.Helper()
	ns, err := NewNamespace()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs CAP_SYS_ADMIN (root, or unshare -Urn): %v", err)
	}
	Must(t, err)
	t.Cleanup(func() {
		if err := ns.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
	return ns
}

// NeedUsers skips a test that needs several users where there is but one.
func NeedUsers(t Test) {
	t.Helper()
	const other = 1000
	err := ForTest(t).DoAs(other, other, func() error { return nil })
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs a second user (root, or subordinate UIDs): %v", err)
	}
	Must(t, err)
}

// Must is for steps of a test whose errors name themselves.
func Must(t Test, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("%v", err)
	}
}

// Eventually waits for something that the kernel or the scheduler does in its own time.
func Eventually(t Test, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%s: not within a minute\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}
