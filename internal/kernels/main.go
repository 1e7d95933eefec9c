// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command kernels runs weir's kernel tests on Debian's kernels, in an emulated machine,
// and prints what holds on which. Within the machine it is the first process.
//
//	kernels -dir DIR -weir FILE -tests FILE -testdata DIR [-write FILE] [-limit TIME] [-kernel VERSION] [-only PATTERN] [-times]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"
)

func main() {
	if os.Getpid() == 1 {
		guest()
		return
	}
	var h host
	flag.StringVar(&h.dir, "dir", "", "keep kernels in `DIR`")
	flag.StringVar(&h.weir, "weir", "", "the program, one static `FILE`")
	flag.StringVar(&h.tests, "tests", "", "the kernel tests, one static `FILE`")
	flag.StringVar(&h.testdata, "testdata", "", "the `DIR` of their files")
	flag.DurationVar(&h.limit, "limit", 15*time.Minute, "give up on a kernel after `TIME`")
	write := flag.String("write", "", "write the matrix to `FILE` too, once every row was run with these programs on every kernel")
	flag.StringVar(&h.version, "kernel", "", "run on the kernel of that `VERSION` alone, such as 6.1")
	flag.StringVar(&h.only, "only", "", "run the rows alone whose names match `PATTERN`")
	flag.BoolVar(&h.times, "times", false, "tell each test's time")
	flag.Parse()
	if _, err := regexp.Compile(h.only); err != nil {
		fmt.Fprintln(os.Stderr, "kernels: -only:", err)
		os.Exit(2)
	}
	if err := h.run(context.Background(), *write); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

// host is this side of the emulator.
type host struct {
	dir, weir, tests, testdata, only, version string
	limit                                     time.Duration
	times                                     bool
	accel                                     string
}

func (h *host) run(ctx context.Context, write string) error {
	var err error
	if h.dir, err = filepath.Abs(h.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return err
	}
	start := time.Now()
	now, err := h.columns(ctx)
	columns, keepErr := h.keep(now)
	if err := errors.Join(err, keepErr); err != nil {
		return err
	}
	text := matrix(columns)
	fmt.Printf("%s\n%d kernels in %s (%s)\n", text, len(now), time.Since(start).Round(time.Second), h.accel)
	if write != "" && complete(columns) { // else it would lose rows
		if err := os.WriteFile(write, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(now, column.failed) {
		return errors.New("rows failed")
	}
	return nil
}

// columns are what the kernels did. All run at a time: an emulated one uses one processor, and
// three that share two end sooner than two and then one.
func (h *host) columns(ctx context.Context) ([]column, error) {
	wanted := slices.DeleteFunc(slices.Clone(kernels), func(k kernel) bool { return h.version != "" && k.Version != h.version })
	columns, errs := make([]column, len(wanted)), make([]error, len(wanted))
	var all sync.WaitGroup
	for i, k := range wanted {
		files, initramfs, err := h.prepare(ctx, k)
		if err != nil {
			errs[i] = fmt.Errorf("%s: %w", k.Suite, err)
			continue
		}
		all.Go(func() {
			defer os.Remove(initramfs)
			if columns[i], err = h.column(ctx, k, files, initramfs); err != nil {
				errs[i] = fmt.Errorf("%s: %w", k.Suite, err)
			}
		})
	}
	all.Wait()
	return columns, errors.Join(errs...)
}

// prepare makes what a kernel starts from, and finds out how it can.
func (h *host) prepare(ctx context.Context, k kernel) (files *kernelFiles, initramfs string, err error) {
	if files, err = h.kernel(ctx, k); err != nil {
		return nil, "", err
	}
	if initramfs, err = h.initramfs(ctx, files); err != nil {
		return nil, "", err
	}
	if h.accel == "" {
		h.accel, err = h.accelerator(ctx, files.vmlinuz, initramfs)
	}
	return files, initramfs, err
}

// column is what one kernel did; beside an error, up to that.
func (h *host) column(ctx context.Context, k kernel, files *kernelFiles, initramfs string) (column, error) {
	ctx, cancel := context.WithTimeout(ctx, h.limit)
	defer cancel()
	start := time.Now()
	results, err := boot(ctx, h.accel, files.vmlinuz, initramfs, h.only, h.times, k.Version)
	fmt.Printf("Linux %s (%s): %s with %s\n", files.release, k.Suite, time.Since(start).Round(time.Second), h.accel)
	return column{kernel: k, Release: files.release, Results: results}, err
}
