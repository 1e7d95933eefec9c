// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is where the numbers come from, in a line.
func machine(ctx context.Context) string {
	return fmt.Sprintf("Linux %s, %d CPUs (%s), load %s, %s, %s, %s", kernel(), runtime.NumCPU(), processor(), load(),
		version(ctx, "nft", "--version"), version(ctx, "iptables-nft-restore", "--version"), runtime.Version())
}

// load is how much else the machine had to do in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(u.Release[:])
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// version is the first line that a program prints of itself.
func version(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return name + ": " + err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

const megabyte, mebibyte = 1e6, 1 << 20

// binary looks at the size of the program, and at whether it is what an image
// of one file needs.
func (b *bench) binary() error {
	info, err := os.Stat(b.weir)
	if err != nil {
		return err
	}
	kind, err := linkage(b.weir)
	if err != nil {
		return err
	}
	size := summarize([]float64{float64(info.Size()) / mebibyte})
	b.report.compare(comparison{What: "the binary, " + kind, Unit: "MiB", Value: size, Bar: 12})
	return nil
}

// installed is a copy of a program, as an image or a package puts it on a disk. Of a file
// that the linker wrote through a mapping the page cache has small pieces, and to start
// it costs a quarter more.
func (b *bench) installed(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	copied := filepath.Join(b.folder, filepath.Base(path))
	return copied, os.WriteFile(copied, content, 0o755)
}

// linkage says whether a program is static and stripped.
func linkage(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	kind := "static"
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			kind = "not static"
		}
	}
	if f.Section(".symtab") == nil {
		return kind + ", stripped", nil
	}
	return kind + ", not stripped", nil
}
