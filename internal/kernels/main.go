//go:build linux

// Command kernels runs weir's kernel tests on Debian's kernels, in an emulated machine,
// and prints what holds on which. Within the machine it is the first process.
//
//	kernels -dir DIR -weir FILE -tests FILE -testdata DIR [-write FILE] [-limit TIME]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
	write := flag.String("write", "", "write the matrix to `FILE` too")
	only := flag.String("only", "", "run the rows of that `NAME` alone")
	flag.Parse()
	h.only = *only
	if err := h.run(context.Background(), *write); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

// host is this side of the emulator.
type host struct {
	dir, weir, tests, testdata, only string
	limit                            time.Duration
	accel                            string
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
	var columns []column
	for _, k := range kernels {
		c, err := h.column(ctx, k)
		if err != nil {
			return fmt.Errorf("%s: %w", k.suite, err)
		}
		columns = append(columns, c)
	}
	text := matrix(columns)
	fmt.Printf("%s\n%d kernels in %s (%s)\n", text, len(columns), time.Since(start).Round(time.Second), h.accel)
	if write != "" && h.only == "" { // else it would lose rows
		if err := os.WriteFile(write, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, c := range columns {
		if c.failed() {
			return errors.New("rows failed")
		}
	}
	return nil
}

// column is what one kernel did.
func (h *host) column(ctx context.Context, k kernel) (column, error) {
	files, err := h.kernel(ctx, k)
	if err != nil {
		return column{}, err
	}
	initramfs, err := h.initramfs(files)
	if err != nil {
		return column{}, err
	}
	defer os.Remove(initramfs)
	if h.accel == "" {
		if h.accel, err = h.accelerator(ctx, files.vmlinuz, initramfs); err != nil {
			return column{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, h.limit)
	defer cancel()
	start := time.Now()
	results, err := boot(ctx, h.accel, files.vmlinuz, initramfs, h.only)
	if err != nil {
		return column{}, err
	}
	fmt.Printf("Linux %s (%s): %s with %s\n", files.release, k.suite, time.Since(start).Round(time.Second), h.accel)
	return column{kernel: k, release: files.release, results: results}, nil
}
