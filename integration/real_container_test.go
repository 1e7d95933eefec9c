package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// container is how a container runtime starts a program: as that user, with
// those capabilities at most, and unable to gain others.
type container struct {
	UID, GID int
	Caps     []int    // of the bounding set; a user other than 0 has none of them
	Args     []string // the program and its arguments
	Env      []string

	// Of an image that holds one file, Program; its root is read-only. Without
	// one, the machine's own.
	Program   string
	Root      string // an empty folder
	Resolvers string // resolv.conf
	Message   string // the file that the kubelet shows as /dev/termination-log
}

const (
	containerRole = "container"
	containerEnv  = "WEIR_TEST_CONTAINER"
)

func init() { roles[containerRole] = playContainer }

// playContainer becomes the container's program.
func playContainer() error {
	runtime.LockOSThread()
	var c container
	if err := json.Unmarshal([]byte(os.Getenv(containerEnv)), &c); err != nil {
		return err
	}
	if c.Program != "" {
		if err := c.enterImage(); err != nil {
			return fmt.Errorf("enter the image: %w", err)
		}
	}
	if err := c.confine(); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	return syscall.Exec(c.Args[0], c.Args, c.Env)
}

// enterImage makes the image the root, for this thread and what it becomes.
func (c container) enterImage() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	at := func(path string) string { return filepath.Join(c.Root, path) }
	touch := func(path string) error { return os.WriteFile(at(path), []byte(c.Resolvers), 0o644) }
	for _, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("tmpfs", c.Root, "tmpfs", 0, "mode=755") },
		func() error {
			return errors.Join(os.Mkdir(at("proc"), 0o755), os.Mkdir(at("etc"), 0o755), os.Mkdir(at("dev"), 0o755))
		},
		func() error {
			return errors.Join(touch("etc/resolv.conf"), touch("dev/termination-log"), touch("weir"))
		},
		func() error { return unix.Mount("/proc", at("proc"), "", unix.MS_BIND|unix.MS_REC, "") },
		func() error { return unix.Mount(c.Program, at("weir"), "", unix.MS_BIND, "") },
		func() error { return unix.Mount(c.Message, at("dev/termination-log"), "", unix.MS_BIND, "") },
		func() error { return unix.Mount("tmpfs", c.Root, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "mode=755") },
		func() error { return unix.Chroot(c.Root) },
		func() error { return os.Chdir("/") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c container) confine() error {
	for capability := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(c.Caps, capability) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	if err := unix.Setresgid(c.GID, c.GID, c.GID); err != nil {
		return err
	}
	return unix.Setresuid(c.UID, c.UID, c.UID)
}

// command is the container, not yet started. It ends with the thread that
// starts it, with all that it started in turn.
func (c container) command(t testing.TB) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+containerRole, containerEnv+"="+string(spec))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// netAdmin are the capabilities of istio's init container.
var netAdmin = []int{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}

// initContainer is istio's init container, with the program as its image.
func initContainer(args ...string) container {
	return container{Caps: netAdmin, Args: append([]string{"/weir"}, args...)}
}

// ran is how a container ended.
type ran struct {
	outcome
	message string // what the kubelet would show
	took    time.Duration
}

// contain runs the program of the test as a container, to its end.
func (p *realPod) contain(c container) ran {
	p.Helper()
	dir := sharedDir(p)
	c.Program, c.Root, c.Message = p.program, filepath.Join(dir, "root"), filepath.Join(dir, "message")
	if err := errors.Join(os.Mkdir(c.Root, 0o755), os.WriteFile(c.Message, nil, 0o666), os.Chmod(c.Message, 0o666)); err != nil {
		p.Fatal(err)
	}
	cmd := c.command(p)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	p.do(cmd.Start)
	limit := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	limit.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.Fatalf("%s: %v", strings.Join(c.Args, " "), err)
	}
	message, err := os.ReadFile(c.Message)
	if err != nil {
		p.Fatal(err)
	}
	return ran{ended(cmd, c.Args[1:], out.String(), errs.String()), string(message), time.Since(start)}
}
