// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// sleeper is a process of a test's.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	return cmd
}

func end(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
}

// TestProcessThatEnded: nothing is read through the handle of a process that ended,
// although another process has its number by then.
func TestProcessThatEnded(t *testing.T) {
	first := sleeper(t)
	pid := first.Process.Pid
	handle, err := OpenProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	ns, err := handle.Namespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if s, err := handle.Status(); err != nil || s.Name != "sleep" || s.Parent != os.Getpid() || !s.Memory {
		t.Errorf("the process is %+v, %v", s, err)
	}
	end(first)
	again := useAgain(t, pid)
	if s, err := handle.Status(); !errors.Is(err, ErrNotExist) {
		t.Errorf("the handle of a process that ended tells %+v, %v", s, err)
	}
	if n, err := handle.Namespace(); !errors.Is(err, ErrNotExist) {
		t.Errorf("the handle of a process that ended leads to %v, %v", n, err)
	}
	if inode, err := handle.Netns(); !errors.Is(err, ErrNotExist) {
		t.Errorf("the handle of a process that ended is in %d, %v", inode, err)
	}
	// What was opened while it was there stays.
	if _, err := ns.ReadEtc(context.Background(), "passwd"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if !again {
		return
	}
	if other, err := OpenProcess(pid); err != nil {
		t.Errorf("the process that has the number now: %v", err)
	} else {
		other.Close()
	}
}

// useAgain starts processes until one has a number that was another's, false where
// that cannot be brought about.
func useAgain(t *testing.T, pid int) bool {
	t.Helper()
	const tries = 200
	for range tries {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(fmt.Sprint(pid-1)), 0o644); err != nil {
			t.Logf("numbers of processes cannot be chosen: %v", err)
			return false
		}
		cmd := sleeper(t)
		if cmd.Process.Pid == pid {
			return true
		}
		end(cmd)
	}
	t.Logf("others took the number in %d tries", tries)
	return false
}

func TestOpenRefusesWhatIsNone(t *testing.T) {
	fifo := t.TempDir() + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		"/proc/self/ns/mnt":            ErrNotNetns,
		"/dev/null":                    ErrNotNetns,
		"/":                            ErrNotNetns,
		fifo:                           ErrNotNetns,
		fifo + "/x":                    ErrNotExist,
		"nowhere-to-be-found":          ErrNotExist,
		"/" + strings.Repeat("x", 300): ErrNotExist,
	} {
		n, err := Open(path)
		if !errors.Is(err, want) {
			t.Errorf("%s is opened as %v, %v", path, n, err)
		}
	}
	if _, err := OfProcess(1 << 30); !errors.Is(err, ErrNotExist) {
		t.Error(err)
	}
}

func TestReadEtcGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Current().ReadEtc(ctx, "passwd"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	never := make(chan struct{})
	defer close(never)
	ctx, cancel = context.WithTimeout(context.Background(), 1)
	defer cancel()
	_, err := waitFor(ctx, "/etc/passwd", func() ([]byte, error) { <-never; return nil, nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
