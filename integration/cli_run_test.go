// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/weir-mesh/weir/netns"
	"golang.org/x/sys/unix"
)

// programEnv is the program to test, for machines that cannot build it.
const programEnv = "WEIR_TEST_PROGRAM"

// buildWeir builds the program as `make build` does.
var buildWeir = sync.OnceValues(func() ([]byte, error) {
	if file := os.Getenv(programEnv); file != "" {
		return os.ReadFile(file)
	}
	return build("./cmd/weir", "")
})

// build is a program of this module and that release, as one static file.
func build(pkg, release string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "weir-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w -X github.com/weir-mesh/weir/internal/version.release="+release, "-o", file, pkg)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return os.ReadFile(file)
}

// install puts the program alone into a folder, and returns its path.
func install(t testing.TB, dir string) string {
	t.Helper()
	program, err := buildWeir()
	if err != nil {
		t.Fatal(err)
	}
	return installAs(t, filepath.Join(dir, "weir"), program)
}

// unforked writes programs while no other goroutine starts one: what is forked then has the file
// open for writing until it executes something, and until that the program cannot be run (ETXTBSY).
func unforked(write func() error) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return write()
}

func installAs(t testing.TB, path string, program []byte) string {
	t.Helper()
	if err := unforked(func() error { return os.WriteFile(path, program, 0o755) }); err != nil {
		t.Fatal(err)
	}
	return path
}

// cli is the program and a network namespace to run it in.
type cli struct {
	*namespace
	program string
	// Of the process.
	chroot   string
	readOnly bool   // the chroot
	cgroup   string // the folder of the cgroup that it takes for the root, "" for the machine's
	dir      string
	uid      int
	caps     []uintptr // besides, for a uid that is not 0, none
	env      []string
	guard    bool // a netlink socket ends it
}

func newCLI(t testing.TB) *cli {
	t.Helper()
	return &cli{namespace: newNamespace(t), program: install(t, sharedDir(t))}
}

// sharedDir is a temporary folder that every user can reach.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with is the same program and namespace, run otherwise.
func (c *cli) with(change func(*cli)) *cli {
	other := *c
	change(&other)
	return &other
}

// elsewhere is the same program in a namespace of a subtest's own.
func (c *cli) elsewhere(t testing.TB) *cli {
	t.Helper()
	return c.with(func(o *cli) { o.namespace = newNamespace(t) })
}

// outcome is how a run of the program ended.
type outcome struct {
	args      []string
	out, errs string
	code      int // -1 for a signal
	signal    syscall.Signal
	cpu       time.Duration // user and system time
}

func (o outcome) String() string {
	return fmt.Sprintf("weir %s: exit %d\nstdout:\n%s\nstderr:\n%s", strings.Join(o.args, " "), o.code, o.out, o.errs)
}

const runLimit = time.Minute

// command is one run of the program that was not started.
func (c *cli) command(stdin string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	cmd := exec.Command(c.program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.Dir, cmd.Env = c.dir, append([]string{}, c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.chroot, AmbientCaps: c.caps}
	if c.chroot != "" {
		cmd.Path, cmd.Dir = "/weir", "/"
	}
	if c.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.uid)}
	}
	return cmd, &out, &errs
}

// run runs the program in the namespace.
func (c *cli) run(args ...string) outcome {
	c.Helper()
	return c.feed("", args...)
}

// feed runs it with a standard input.
func (c *cli) feed(stdin string, args ...string) outcome {
	c.Helper()
	cmd, out, errs := c.command(stdin, args...)
	c.launch(cmd)
	limit := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	limit.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.Fatalf("%s: %v", cmd, err)
	}
	return ended(cmd, args, out.String(), errs.String())
}

// launch starts a run in the namespace, with what the cli asks for besides.
func (c *cli) launch(cmd *exec.Cmd) {
	c.Helper()
	start := func() error {
		if c.guard {
			if err := guardThread(); err != nil {
				return err
			}
		}
		return cmd.Start()
	}
	if !c.readOnly && c.cgroup == "" {
		c.do(start)
		return
	}
	err := inMounts(func() error {
		if c.cgroup != "" {
			root, err := netns.Cgroup2Mount()
			if err == nil {
				err = unix.Mount(c.cgroup, root, "", unix.MS_BIND, "")
			}
			if err != nil {
				return fmt.Errorf("make %s the root of cgroups: %w", c.cgroup, err)
			}
			return c.within(start)
		}
		for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
			if err := unix.Mount(c.chroot, c.chroot, "", flags, ""); err != nil {
				return fmt.Errorf("make %s read-only: %w", c.chroot, err)
			}
		}
		return c.within(start)
	})
	if err != nil {
		c.Fatal(err)
	}
}

func ended(cmd *exec.Cmd, args []string, out, errs string) outcome {
	o := outcome{args: args, out: out, errs: errs, code: cmd.ProcessState.ExitCode(), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		o.signal = status.Signal()
	}
	return o
}

// ok runs it, wants success, and returns what it printed.
func (c *cli) ok(args ...string) string {
	c.Helper()
	return c.run(args...).want(c, 0).out
}

// want fails the test where the exit code is another.
func (o outcome) want(t testing.TB, code int) outcome {
	t.Helper()
	if o.code != code {
		t.Fatalf("want exit %d: %s", code, o)
	}
	return o
}

// says fails the test where standard error lacks one of the texts.
func (o outcome) says(t testing.TB, texts ...string) outcome {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(o.errs, text) {
			t.Errorf("want %q on standard error: %s", text, o)
		}
	}
	return o
}

// prints fails the test where standard output lacks one of the texts.
func (o outcome) prints(t testing.TB, texts ...string) outcome {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(o.out, text) {
			t.Errorf("want %q on standard output: %s", text, o)
		}
	}
	return o
}

// jsonOf is the JSON document of an output, which must hold nothing else and no
// field that T does not know.
func jsonOf[T any](t testing.TB, text string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if d.More() {
		t.Fatalf("more than one document:\n%s", text)
	}
	return v
}

// write writes a file for the program to read, and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(sharedDir(t), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// oneUser reports whether this is a user namespace of one user.
func oneUser() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(text))
	return err == nil && len(fields) == 3 && fields[2] == "1"
}

// needUsers skips a test that must become other users where there is but one.
func needUsers(t testing.TB) {
	t.Helper()
	if !oneUser() {
		return
	}
	const why = "this user namespace has one user; other users need root"
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// guardThread makes the kernel end with SIGSYS whatever this thread starts from
// now on, when that opens a netlink socket. So a run that ends otherwise sent
// the kernel no message, whatever it was asked to do.
func guardThread() error {
	const (
		number = 0  // of struct seccomp_data
		first  = 16 // the low word of the first argument, on a little-endian machine
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: first},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_NETLINK, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// isolated skips a test where there can be no network namespace.
func isolated(t testing.TB) {
	t.Helper()
	newNamespace(t)
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
