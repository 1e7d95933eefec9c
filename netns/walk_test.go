// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// ownRoot is the root of the test's own process, as another would see it.
func ownRoot(t *testing.T) *root {
	t.Helper()
	n, err := OfProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n.root
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestWalk: links are followed by their text, and every path ends.
func TestWalk(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return dir + "/" + name }
	check(t, os.WriteFile(at("file"), []byte("here"), 0o644), os.WriteFile(at("empty"), nil, 0o644), os.MkdirAll(at("a/b/c"), 0o755))
	for name, to := range map[string]string{
		"relative": "file", "absolute": at("file"), "slashes": "///" + at("file"), "dots": "./a/.././a/b/../../file", "climb": strings.Repeat("../", 60) + at("file"),
		"a/b/up": "../../file", "folder": "a/b", "through": "folder/up", "parent": "a/b/..", "self": "self", "x": "y", "y": "x", "below": "file/z",
		"long": strings.Repeat("a/../", 600) + "file", "dangling": "nowhere", "grow": "grow/grow",
	} {
		check(t, os.Symlink(to, at(name)))
	}
	last := "file"
	for i := range maxLinks + 1 {
		name := fmt.Sprintf("chain%d", i+1)
		check(t, os.Symlink(last, at(name)))
		last = name
	}
	deep := strings.Repeat("/d", maxDepth)
	check(t, os.MkdirAll(at(deep), 0o755), os.WriteFile(at(deep+"/file"), []byte("deep"), 0o644))
	r := ownRoot(t)
	for _, tt := range []struct{ why, name, want string }{
		{"a file", "file", "here"},
		{"an empty one", "empty", ""},
		{"a relative link", "relative", "here"},
		{"an absolute link", "absolute", "here"},
		{"slashes more than are needed", "slashes", "here"},
		{"dots", "dots", "here"},
		{"more steps up than there are", "climb", "here"},
		{"a link's own folder counts", "a/b/up", "here"},
		{"a link through a link, whose target's folder counts", "through", "here"},
		{"up from where a link led", "folder/../../file", "here"},
		{"as many links as the kernel follows", fmt.Sprint("chain", maxLinks), "here"},
		{"one more", fmt.Sprint("chain", maxLinks+1), "lead in a circle"},
		{"a link to itself", "self", "lead in a circle"},
		{"two to each other", "x", "lead in a circle"},
		{"one that grows", "grow", "lead in a circle"},
		{"a file as a folder", "below", "not a directory"},
		{"nothing", "dangling", "no such file or directory"},
		{"a folder", "a", "it is a directory"},
		{"a link to a folder", "parent", "it is a directory"},
		{"a long way", "long", "a path that is too long"},
		{"a deep one", deep + "/file", "directories deep"},
	} {
		text, err := r.read(context.Background(), at(tt.name))
		got := string(text)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("%s: %s is read as %q, want %q", tt.why, tt.name, got, tt.want)
		}
	}
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	if len(entries) > 40 {
		t.Errorf("%d descriptors are left open", len(entries))
	}
}

// TestWalkWhileFilesAreSwapped: 2,000 reads, or as many as it takes, of what is now a file, now a FIFO, a link
// or a folder either read the file or say what else it was.
func TestWalkWhileFilesAreSwapped(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, syscall.Mkfifo(at("0"), 0o666), os.WriteFile(at("1"), []byte("here"), 0o644), os.Symlink("nowhere", at("2")), os.Mkdir(at("3"), 0o755),
		os.Symlink("0", at("4")))
	over := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			_ = os.Rename(at(fmt.Sprint(i%5)), at("now"))
			time.Sleep(20 * time.Microsecond) // the machine's other tests go on
			_ = os.Rename(at("now"), at(fmt.Sprint(i%5)))
		}
	})
	r := ownRoot(t)
	defer swapper.Wait()
	defer close(over)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	seen := map[string]int{}
	for i := 0; i < 2000 || seen["read"] == 0 || seen["refused"] == 0; i++ {
		if ctx.Err() != nil {
			t.Fatalf("of %d reads: %v", i, seen)
		}
		text, err := r.read(ctx, at("now"))
		var refused *FileError
		switch {
		case err == nil && string(text) == "here":
			seen["read"]++
		case errors.As(err, &refused):
			seen["refused"]++
		case errors.Is(err, os.ErrNotExist):
			seen["absent"]++
		default:
			t.Fatalf("read %q, %v", text, err)
		}
	}
}

// TestFileSystemsThatMayNotAnswer: a mount is told by its number, or by the device
// where the process does not list it; one that is not listed is asked.
func TestFileSystemsThatMayNotAnswer(t *testing.T) {
	const withID, without = unix.STATX_MNT_ID, 0
	disk, err := os.Open(t.TempDir())
	check(t, err)
	defer disk.Close()
	for _, tt := range []struct {
		why, line string
		mask      uint32
		id        uint64
		fit       bool
	}{
		{"a disk", "36 35 0:40 / / rw,noatime shared:1 - ext4 /dev/root rw", withID, 36, true},
		{"the same, by its device", "36 35 0:40 / / rw,noatime shared:1 - ext4 /dev/root rw", without, 0, true},
		{"a mount of the device that the process does not list", "36 35 0:40 / / rw - ext4 /dev/root rw", withID, 99, true},
		{"a device that is not listed", "36 35 0:41 / / rw - fuse x rw", withID, 99, true},
		{"FUSE", "36 35 0:40 / /run/x rw shared:1 master:2 - fuse x rw", withID, 36, false},
		{"FUSE, with a name", "36 35 0:40 / /run/x rw - fuse.sshfs a:/b rw,user_id=0", withID, 36, false},
		{"FUSE, by its device", "36 35 0:40 / /run/x rw - fuse.sshfs a:/b rw,user_id=0", without, 0, false},
		{"FUSE over a disk", "36 35 0:40 / /mnt rw - fuseblk /dev/sda1 rw", withID, 36, false},
		{"a virtual machine's host", "36 35 0:40 / / rw - virtiofs kataShared rw", withID, 36, true},
		{"a container's image", "36 35 0:40 / / rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d", withID, 36, true},
		{"an overlay of a user namespace's", "36 35 0:40 / /etc rw - overlay overlay rw,lowerdir=/a:/b,userxattr", withID, 36, !inInitialUsers()},
		{"the kernel's", "36 35 0:40 / /proc rw - proc proc rw", withID, 36, false},
		{"a folder whose name has a separator", "36 35 0:40 / /a\\040-\\040b rw - tmpfs tmpfs rw", withID, 36, true},
		{"no list", "", withID, 36, true},
	} {
		s := &fileSystems{mounts: append(mountinfo.Parse([]byte(tt.line)), mountinfo.Mount{ID: 1, Minor: 1, Type: "tmpfs"})}
		at := unix.Statx_t{Mask: tt.mask, Mnt_id: tt.id, Dev_minor: 40}
		if why := s.unfit(int(disk.Fd()), &at); (why == "") != tt.fit {
			t.Errorf("%s is fit: %v (%s)", tt.why, !tt.fit, why)
		}
	}
}
