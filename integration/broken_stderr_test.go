// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBrokenStderr: an apply that cannot say what it has to note does its work all
// the same, and ends as it would.
func TestBrokenStderr(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, tt := range []struct {
		why  string
		open func(t *testing.T) *os.File
	}{
		{"a pipe whose reader is gone", func(t *testing.T) *os.File {
			r, w := pipe(t)
			r.Close()
			return w
		}},
		{"a full pipe that is not read", func(t *testing.T) *os.File {
			_, w := pipe(t)
			fill(t, w)
			return w
		}},
		{"a full pipe that does not block", func(t *testing.T) *os.File {
			_, w := pipe(t)
			fill(t, w)
			if err := unix.SetNonblock(int(w.Fd()), true); err != nil {
				t.Fatal(err)
			}
			return w
		}},
		{"a full disk", func(t *testing.T) *os.File {
			f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Skip(err)
			}
			return f
		}},
		{"a file that is open for reading", func(t *testing.T) *os.File {
			f, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			return f
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := c.elsewhere(t)
			for _, step := range []struct {
				args  []string
				code  int
				holds bool // the table is there after it
			}{
				{with("apply", append(plainSidecar, "--ipv6", "auto")...), 0, true},
				{with("apply", append(plainSidecar, "--ipv6", "auto", "--outbound-exclude-ports", "x")...), 2, true},
				{with("istio-init", "-i", "*", "-u", "1337"), 0, true},
				{[]string{"remove"}, 0, false},
			} {
				errs := tt.open(t)
				cmd, out, _ := n.command("", step.args...)
				cmd.Stderr = errs
				start := time.Now()
				n.launch(cmd)
				limit := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
				_ = cmd.Wait() // the exit code tells
				limit.Stop()
				errs.Close()
				if o := ended(cmd, step.args, out.String(), ""); o.code != step.code {
					t.Errorf("exit %d, want %d after %s: %s", o.code, step.code, time.Since(start), o)
				}
				if holds := len(n.tables()) > 0; holds != step.holds {
					t.Errorf("weir %v: the table is there: %v", step.args, holds)
				}
			}
		})
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// fill writes into a pipe until it takes no more.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	fd := int(w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, chunk := range [][]byte{bytes.Repeat([]byte("x"), 4096), []byte("x")} {
		for {
			if _, err := unix.Write(fd, chunk); err != nil {
				break
			}
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}
