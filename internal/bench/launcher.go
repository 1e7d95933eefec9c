// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// A command is a process to start and wait for.
type command struct {
	Args  []string
	Stdin string // a file, "" for nothing
}

// A cost is what one process took, or several in turn.
type cost struct {
	Wall, CPU time.Duration // CPU is user and system time
	RSS       int64         // bytes at the peak, of the largest
	Small     bool          // the peak was lower than RSS, which is the launcher's
}

func (c cost) plus(d cost) cost {
	return cost{c.Wall + d.Wall, c.CPU + d.CPU, max(c.RSS, d.RSS), c.Small && d.Small}
}

// total is the cost of one after the other.
func total(costs []cost) cost {
	sum := cost{Small: true}
	for _, c := range costs {
		sum = sum.plus(c)
	}
	return sum
}

// launcherName is what the program is called when it only starts others. Linux
// has the peak of a process begin with that of the one that started it, if that
// was by vfork as in Go: so a small one has to.
const launcherName = "weir-bench-launcher"

// runIn runs the commands in a namespace, one after the other.
func runIn(ctx context.Context, ns *scratch.Namespace, commands ...command) ([]cost, error) {
	work, err := json.Marshal(commands)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Args[0] = launcherName
	c.Stdin = bytes.NewReader(work)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	if err := ns.Do(c.Run); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	var costs []cost
	return costs, json.Unmarshal(out.Bytes(), &costs)
}

// launch does what runIn asks of another process.
func launch() int {
	runtime.LockOSThread() // what it starts is killed when this thread ends
	var commands []command
	if err := json.NewDecoder(os.Stdin).Decode(&commands); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	costs := make([]cost, len(commands))
	for i, c := range commands {
		var err error
		if costs[i], err = c.run(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", strings.Join(c.Args, " "), err)
			return 1
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(costs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c command) run() (cost, error) {
	p := exec.Command(c.Args[0], c.Args[1:]...)
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	p.Stderr = &stderr
	if c.Stdin != "" {
		f, err := os.Open(c.Stdin)
		if err != nil {
			return cost{}, err
		}
		defer f.Close()
		p.Stdin = f
	}
	start := time.Now()
	err := p.Run()
	wall := time.Since(start)
	if err != nil {
		return cost{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	used := p.ProcessState.SysUsage().(*syscall.Rusage)
	rss := used.Maxrss << 10
	return cost{wall, p.ProcessState.UserTime() + p.ProcessState.SystemTime(), rss, rss <= ownPeak()}, nil
}

// ownPeak is the launcher's own, in bytes; its resource usage has that of the
// bench in it.
func ownPeak() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return field(string(status), "VmHWM:") << 10
}
