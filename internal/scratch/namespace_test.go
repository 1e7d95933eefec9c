// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDoRunsInsideAndChangesNothingOutside(t *testing.T) {
	ns := ForTest(t)
	outside := id(t, "/proc/thread-self/ns/net")
	for range 100 { // so that some would meet the main thread
		var inside uint64
		Must(t, ns.Do(func() error { inside = id(t, "/proc/thread-self/ns/net"); return nil }))
		if want := id(t, ns.Path()); inside != want || inside == outside {
			t.Fatalf("inside is namespace %d, want %d and not %d", inside, want, outside)
		}
		if got := id(t, "/proc/self/ns/net"); got != outside {
			t.Fatalf("the main thread is in namespace %d, want %d", got, outside)
		}
	}
}

func TestDoReturnsWhateverBecomesOfItsFunction(t *testing.T) {
	ns := ForTest(t)
	want := errors.New("of its own")
	if err := ns.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want the function's error", err)
	}
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("a function that left its goroutine: no error")
	}
	Must(t, ns.Close())
	if err := ns.Do(func() error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("in a closed namespace: got %v, want %v", err, os.ErrClosed)
	}
}

func TestANewNamespaceHasOnlyItsLoopbackUp(t *testing.T) {
	var links []net.Interface
	Must(t, ForTest(t).Do(func() (err error) { links, err = net.Interfaces(); return err }))
	for _, l := range links {
		if up := l.Flags&net.FlagUp != 0; up != (l.Name == "lo") {
			t.Errorf("link %s: up is %v", l.Name, up)
		}
	}
}

// enterVar makes the test program one that enters the namespace at a path and says which it is.
const enterVar = "SCRATCH_TEST_ENTER"

func TestMain(m *testing.M) {
	path, other := os.LookupEnv(enterVar)
	if !other {
		os.Exit(m.Run())
	}
	if err := enterAndTell(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func enterAndTell(path string) error {
	ns, err := OpenNamespace(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(func() error {
		name, err := os.Readlink("/proc/thread-self/ns/net")
		fmt.Println(name)
		return err
	})
}

func TestAnotherProcessEntersByPath(t *testing.T) {
	ns := ForTest(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), enterVar+"="+ns.Path())
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("net:[%d]\n", id(t, ns.Path())); err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestBind(t *testing.T) {
	ns := ForTest(t)
	name := fmt.Sprintf("lab-test-%d", os.Getpid())
	err := ns.Bind(name)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		t.Skipf("needs to mount in %s: %v", namesDir, err)
	}
	Must(t, err)
	path := filepath.Join(namesDir, name)
	if ns.Path() != path {
		t.Errorf("path is %s, want %s", ns.Path(), path)
	}
	if err := ForTest(t).Bind(name); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second namespace of that name: got %v, want %v", err, os.ErrExist)
	}
	if err := ns.Bind(name + "-too"); err == nil {
		t.Error("a second name: no error")
	}
	same, err := OpenNamespace(path)
	Must(t, err)
	Must(t, same.Close())
	Must(t, ns.Close())
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after closing, %s: %v, want %v", path, err, os.ErrNotExist)
	}
}

func TestBindRefusesWhatIsNoFileName(t *testing.T) {
	ns := ForTest(t)
	for _, name := range []string{"", ".", "..", "a/b", "/etc/passwd", "../a"} {
		if err := ns.Bind(name); err == nil {
			t.Errorf("bind as %q: no error", name)
		}
	}
}

func TestOpenNamespaceRefusesWhatIsNone(t *testing.T) {
	if _, err := OpenNamespace(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: got %v, want %v", err, os.ErrNotExist)
	}
	if _, err := OpenNamespace(os.Args[0]); err == nil {
		t.Error("a program: no error")
	}
}

func TestCurrentNamespace(t *testing.T) {
	ns := ForTest(t)
	var current *Namespace
	Must(t, ns.Do(func() (err error) { current, err = CurrentNamespace(); return err }))
	defer current.Close()
	if got, want := id(t, current.Path()), id(t, ns.Path()); got != want {
		t.Errorf("got namespace %d, want %d", got, want)
	}
}

func TestSysctl(t *testing.T) {
	ns := ForTest(t)
	const key = "net/ipv4/ip_default_ttl"
	Must(t, ns.Sysctl(key, "77"))
	read := func() string {
		value, err := os.ReadFile("/proc/sys/" + key)
		Must(t, err)
		return strings.TrimSpace(string(value))
	}
	var inside string
	Must(t, ns.Do(func() error { inside = read(); return nil }))
	if outside := read(); inside != "77" || outside == "77" {
		t.Errorf("inside %s, outside %s", inside, outside)
	}
	for _, key := range []string{"absent", "kernel/absent", "net/../net/ipv4/ip_default_ttl", "../sys/net/ipv4/ip_default_ttl", "/net/x", "net/absent"} {
		if err := ns.Sysctl(key, "64"); err == nil {
			t.Errorf("sysctl %s: no error", key)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	ns := ForTest(b)
	for b.Loop() {
		Must(b, ns.Do(func() error { return nil }))
	}
}
