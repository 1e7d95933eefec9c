// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// podCounts are how many pods come and go at once, and podRounds how often.
var podCounts = []int{1, 50, 200}

const podRounds = 5

// podsRow is what one command costs for pods of ambient mode.
type podsRow struct {
	What        string  `json:"what"`
	Pods        int     `json:"pods"`
	Wall        summary `json:"wallMilliseconds"`
	CPU         summary `json:"cpuMillisecondsPerPod"`
	RSS         summary `json:"peakRSSMegabytes"`
	Threads     summary `json:"peakThreads"`
	Descriptors summary `json:"peakDescriptors"`
}

// churn measures pods that come and go: the namespaces of all are enrolled,
// verified and released, each time by one process.
func (b *bench) churn(ctx context.Context) error {
	enrol := map[int]podsRow{}
	for _, n := range podCounts {
		progress(fmt.Sprintf("%d pods", n))
		used, err := b.podsOf(ctx, n)
		if err != nil {
			return fmt.Errorf("%d pods: %w", n, err)
		}
		for _, verb := range podVerbs {
			row := podsRow{What: verb, Pods: n}
			each := func(of func(usage) float64) summary {
				var values []float64
				for _, u := range used[verb][1:] { // the first round warms up
					values = append(values, of(u))
				}
				return summarize(values)
			}
			row.Wall = each(func(u usage) float64 { return milliseconds(u.wall) })
			row.CPU = each(func(u usage) float64 { return milliseconds(u.cpu) / float64(n) })
			row.RSS = each(func(u usage) float64 { return float64(u.peak.rss) / megabyte })
			row.Threads = each(func(u usage) float64 { return float64(u.peak.threads) })
			row.Descriptors = each(func(u usage) float64 { return float64(u.peak.descriptors) })
			b.report.Pods = append(b.report.Pods, row)
			if verb == "apply" {
				enrol[n] = row
			}
		}
	}
	few, many := enrol[50], enrol[200]
	over := func(of func(podsRow) summary) summary {
		ratio := of(many).Median / of(few).Median
		return summary{ratio, ratio, ratio}
	}
	b.report.compare(
		comparison{What: "a pod of 200 enrolled, CPU", Unit: "ms", Value: many.CPU, Bar: 10},
		comparison{What: "CPU a pod, 200 beside 50", Value: over(func(r podsRow) summary { return r.CPU }), Bar: 1.5},
		comparison{What: "open descriptors, 200 pods beside 50", Value: over(func(r podsRow) summary { return r.Descriptors }), Bar: 1.5},
		comparison{What: "threads, 200 pods beside 50", Value: over(func(r podsRow) summary { return r.Threads }), Bar: 1.5},
		comparison{What: "peak RSS, 200 pods beside 50", Value: over(func(r podsRow) summary { return r.RSS }), Bar: 1.5})
	return nil
}

var podVerbs = []string{"apply", "verify", "remove"}

// podsOf is what the commands use for so many pods, a round each.
func (b *bench) podsOf(ctx context.Context, n int) (used map[string][]usage, err error) {
	folder, err := os.MkdirTemp(b.folder, "pods-")
	if err != nil {
		return nil, err
	}
	for i := range n {
		ns, err := scratch.NewNamespace()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, ns.Close()) }()
		if err := os.Symlink(ns.Path(), filepath.Join(folder, strconv.Itoa(i))); err != nil {
			return nil, err
		}
	}
	used = map[string][]usage{}
	for range podRounds + 1 {
		for _, verb := range podVerbs {
			u, err := watch(exec.CommandContext(ctx, b.weir, "ambient", "pod", verb, "--v6", "--dns", "--netns", filepath.Join(folder, "*")))
			if err != nil {
				return nil, err
			}
			used[verb] = append(used[verb], u)
		}
	}
	return used, nil
}

// usage is what a process took, and the most that it had at one time.
type usage struct {
	wall, cpu time.Duration
	peak      holding
}

type holding struct {
	rss                  int64 // bytes
	threads, descriptors int
}

func (h holding) most(o holding) holding {
	return holding{max(h.rss, o.rss), max(h.threads, o.threads), max(h.descriptors, o.descriptors)}
}

const watchPause = 2 * time.Millisecond

// watch runs a process, and looks at what it has open meanwhile.
func watch(c *exec.Cmd) (u usage, err error) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	c.Stderr = &stderr
	start := time.Now()
	if err := c.Start(); err != nil {
		return u, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return u, fmt.Errorf("%s: %w: %s", c, err, strings.TrimSpace(stderr.String()))
			}
			u.wall, u.cpu = time.Since(start), c.ProcessState.UserTime()+c.ProcessState.SystemTime()
			return u, nil
		case <-time.After(watchPause):
			u.peak = u.peak.most(held(c.Process.Pid))
		}
	}
}

// held is what a process has now, nothing where it has ended.
func held(pid int) (h holding) {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return h
	}
	h.rss, h.threads = field(string(status), "VmHWM:")<<10, int(field(string(status), "Threads:"))
	open, _ := os.ReadDir(filepath.Join(folder, "fd")) // it may end at any time
	h.descriptors = len(open)
	return h
}

// field is a number of proc_pid_status(5), 0 where it is not there.
func field(status, name string) (n int64) {
	if _, after, ok := strings.Cut(status, name); ok {
		_, _ = fmt.Sscan(after, &n)
	}
	return n
}
