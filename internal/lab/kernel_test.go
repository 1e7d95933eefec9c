//go:build linux

package lab

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// newNamespace makes a namespace for a test, or skips the test where that is not allowed.
func newNamespace(t testing.TB) *scratch.Namespace {
	t.Helper()
	ns, err := scratch.NewNamespace()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs CAP_SYS_ADMIN (root, or unshare -Urn): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return ns
}

// needUsers skips a test that needs several users where there is but one.
func needUsers(t testing.TB) {
	t.Helper()
	err := newNamespace(t).DoAs(appUser, appUser, func() error { return nil })
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs a second user (root, or subordinate UIDs): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newPod(t testing.TB) *Pod {
	t.Helper()
	needUsers(t)
	pod, err := NewPod(t.Context(), scratch.Identity{UID: 1337, GID: 1337})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Close(); err != nil {
			t.Error(err)
		}
	})
	return pod
}

// must is for steps whose errors name themselves.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something that the kernel or the scheduler does in its own time.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%s: not within 10 s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}
