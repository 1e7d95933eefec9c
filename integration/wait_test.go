// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What tests wait for is an event that the kernel shows, not a time in which it should
// have happened: a busy machine may take any time.

const eventPatience = 30 * time.Second

// eventually waits until something holds that happens in its own time.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(eventPatience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, eventPatience)
		}
	}
}

func (c *cli) eventually(what string, holds func() bool) {
	c.Helper()
	eventually(c, what, holds)
}

// handlesSignals waits until a command has asked the Go runtime for SIGINT and SIGTERM,
// or has ended. Before, either ends it as SIGKILL does.
func (c *cli) handlesSignals(cmd *exec.Cmd) {
	c.Helper()
	pid := cmd.Process.Pid
	c.eventually("the command handles signals", func() bool {
		threads := threadsOf(pid)
		return hasEnded(threads) || slices.ContainsFunc(threads, thread.receivesSignals) && sleptSince(pid, threads)
	})
}

// waits waits until a command has asked the kernel, has read all that it answered and
// sleeps, or has ended.
func (c *cli) waits(cmd *exec.Cmd) {
	c.Helper()
	pid := cmd.Process.Pid
	c.eventually("the command waits", func() bool {
		threads := threadsOf(pid)
		return hasEnded(threads) || hasReadAll(pid) && sleptSince(pid, threads)
	})
}

// sleptSince reports whether no thread of a process ran since that look at them, so that
// all slept at once.
func sleptSince(pid int, threads []thread) bool {
	return !slices.ContainsFunc(threads, thread.runs) && slices.Equal(threads, threadsOf(pid))
}

// thread is a process's thread as its status file in /proc shows it.
type thread struct {
	id       string
	state    string
	blocked  uint64 // the mask of signals
	switches [2]string
}

// threadsOf are the threads of a process, none once it was waited for.
func threadsOf(pid int) []thread {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid)) // the pattern is well-formed
	var list []thread
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		th := thread{id: file}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			switch value = strings.TrimSpace(value); key {
			case "State":
				th.state = value[:1]
			case "SigBlk":
				th.blocked, _ = strconv.ParseUint(value, 16, 64) // the kernel writes 16 digits
			case "voluntary_ctxt_switches":
				th.switches[0] = value
			case "nonvoluntary_ctxt_switches":
				th.switches[1] = value
			}
		}
		list = append(list, th)
	}
	return list
}

func hasEnded(threads []thread) bool {
	return !slices.ContainsFunc(threads, func(th thread) bool { return th.state != "Z" && th.state != "X" })
}

func (th thread) runs() bool { return th.state != "S" }

// receivesSignals reports whether it is the thread that Go's runtime starts with the
// first call of signal.Notify: no other blocks SIGUSR1 and leaves SIGTERM.
func (th thread) receivesSignals() bool {
	blocks := func(s syscall.Signal) bool { return th.blocked&(1<<(s-1)) != 0 }
	return blocks(syscall.SIGUSR1) && !blocks(syscall.SIGTERM)
}

// hasReadAll reports whether a process has netfilter's sockets in the network namespace
// that its first thread is in, and nothing waits in any.
func hasReadAll(pid int) bool {
	open := map[string]bool{}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is well-formed
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil {
			open[to] = true
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", pid))
	if err != nil {
		return false
	}
	sockets := 0
	for line := range strings.Lines(string(text)) {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		f := strings.Fields(line)
		if len(f) != 10 || f[1] != strconv.Itoa(unix.NETLINK_NETFILTER) || !open["socket:["+f[9]+"]"] {
			continue
		}
		if sockets++; f[4] != "0" {
			return false
		}
	}
	return sockets > 0
}

// refusedConnections counts the connections of the namespace that were refused.
func (n *namespace) refusedConnections() (count int) {
	n.Helper()
	n.do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var keys, values []string
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); f[0] == "Tcp:" {
				keys, values = values, f
			}
		}
		at := slices.Index(keys, "AttemptFails")
		if at < 0 || at >= len(values) {
			return fmt.Errorf("no AttemptFails in\n%s", text)
		}
		count, err = strconv.Atoi(values[at])
		return err
	})
	return count
}

// untilRefused returns what waits until so many more connections were refused.
func (n *namespace) untilRefused(more int) (wait func()) {
	n.Helper()
	before := n.refusedConnections()
	return func() {
		n.Helper()
		eventually(n, fmt.Sprintf("%d connections are refused", more), func() bool { return n.refusedConnections() >= before+more })
	}
}
