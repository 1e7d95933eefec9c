// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the guest is told on the kernel's command line.
const (
	onlyParameter  = "weir.only=" // a regular expression of rows, with _ for a blank
	timesParameter = "weir.times" // each test's time is to be told
)

// guest is the machine's first process. It ends with the machine.
func guest() {
	fmt.Printf("\n%s\n", helloLine)
	if err := prepare(); err != nil {
		fmt.Println(err)
	}
	only, times := told()
	for _, r := range rows {
		if !only.MatchString(r.name) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 35*time.Minute)
		start := time.Now()
		got := r.do(ctx)
		cancel()
		got.Row, got.Took = r.name, time.Since(start)
		if !times {
			got.Times = nil
		}
		if text, err := json.Marshal(got); err == nil {
			fmt.Printf("\n%s%s\n", resultLine, text)
		}
		reap()
	}
	fmt.Printf("\n%s\n", doneLine)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // which -no-reboot makes the end
	select {}
}

// told is what the host asks for: which rows, and whether the tests' times.
func told() (only *regexp.Regexp, times bool) {
	line, _ := os.ReadFile("/proc/cmdline") // without it, every row
	pattern := ""
	for word := range strings.FieldsSeq(string(line)) {
		if p, ok := strings.CutPrefix(word, onlyParameter); ok {
			pattern = strings.ReplaceAll(p, "_", " ")
		}
		times = times || word == timesParameter
	}
	only, err := regexp.Compile(pattern)
	if err != nil { // the host has compiled it before
		fmt.Println(err)
		return regexp.MustCompile(""), times
	}
	return only, times
}

// prepare mounts what programs expect, and loads the modules.
func prepare() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"}, {"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	for name, value := range map[string]string{"PATH": "/bin", "HOME": "/root", "TMPDIR": "/tmp"} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	files, err := filepath.Glob("/modules/*.ko") // sorted: in the order to load them
	if err != nil {
		return err
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
		}
		if err != nil {
			fmt.Printf("module %s: %v\n", file, err)
		}
	}
	return nil
}

// reap waits for children that their parents left.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
	}
}
