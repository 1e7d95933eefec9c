// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroupmark

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProgram attaches the program to a cgroup, finds it again, and has a socket that is made there
// carry its mark; a second mark takes the first one's place.
func TestProgram(t *testing.T) {
	root := cgroupRoot(t)
	dir := filepath.Join(root, fmt.Sprintf("weir-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	name := NameOf("weir", uint64(os.Getpid()))
	for _, mark := range []uint32{0x53d, 0x7a1} {
		p := Program{dir, name, mark}
		changed, err := p.Attach()
		if errors.Is(err, unix.EPERM) {
			t.Skip(err)
		}
		if err != nil || !changed {
			t.Fatalf("attached: %v, %v", changed, err)
		}
		if changed, err := p.Attach(); err != nil || changed {
			t.Errorf("attached twice: %v, %v", changed, err)
		}
		if is, others, err := p.Attached(); !is || others != 0 || err != nil {
			t.Errorf("found %v, %d others, %v", is, others, err)
		}
	}
	kept := Program{Cgroup: dir, Name: name}
	if others, err := Others(root, name, kept); len(others) > 0 || err != nil {
		t.Errorf("besides what is kept, found %v, %v", others, err)
	}
	if others, err := Others(root, name); len(others) != 1 || others[0] != kept || err != nil {
		t.Errorf("found %v, %v", others, err)
	}
	if any, err := Any(); !any || err != nil {
		t.Errorf("found any: %v, %v", any, err)
	}
	if n, err := DetachAll(root, name, kept); n != 0 || err != nil {
		t.Errorf("detached %d of those that are kept, %v", n, err)
	}
	if n, err := DetachAll(dir, name); n != 1 || err != nil {
		t.Errorf("detached %d, %v", n, err)
	}
	if is, _, err := (Program{dir, name, 0x7a1}).Attached(); is || err != nil {
		t.Errorf("found %v after it was detached, %v", is, err)
	}
}

func cgroupRoot(t *testing.T) string {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var s unix.Statfs_t
		if unix.Statfs(root, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC {
			return root
		}
	}
	t.Skip("cgroup v2 is not mounted here")
	return ""
}
