// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proc

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// TestReadIsWhole: files longer than what is asked for at once, and those of one value.
func TestReadIsWhole(t *testing.T) {
	for _, path := range []string{"/proc/self/mountinfo", "/proc/filesystems", "/proc/sys/kernel/ostype", "/proc/self/coredump_filter"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes and %v, want %d", path, len(got), err, len(want))
		}
	}
	if _, err := Read("/proc/self/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Read("/proc/self"); err == nil {
		t.Error("a directory was read")
	}
}
