// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroupmark

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/bpf"
	"golang.org/x/sys/unix"
)

// DetachAll detaches every program of a name below a root of cgroup v2, but for those in the
// cgroups of keep, and counts them.
func DetachAll(root, name string, keep ...Program) (count int, err error) {
	others, err := Others(root, name, keep...)
	for _, p := range others {
		have, err := p.attached()
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		}
		if err != nil {
			return count, err
		}
		for _, h := range have {
			if err := p.detach(h.id); err != nil {
				return count, err
			}
			count++
		}
	}
	return count, err
}

// Others are the cgroups below a root of cgroup v2 that have programs of a name, and are none of
// those of keep. The mark is not told. Nothing but a cgroup keeps such a program loaded, so the
// cgroups are looked through only where more are loaded than keep has.
func Others(root, name string, keep ...Program) (out []Program, err error) {
	if n, err := Loaded(name); err != nil || n <= len(keep) {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		kept := slices.ContainsFunc(keep, func(p Program) bool { return p.Cgroup == path })
		if err != nil || !entry.IsDir() || kept {
			return nil // it may have ended
		}
		p := Program{Cgroup: path, Name: name}
		have, err := p.attached()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if len(have) > 0 {
			out = append(out, p)
		}
		return nil
	})
	return out, err
}

// Any reports whether the kernel has a program of any table's, which is quickly told.
func Any() (bool, error) {
	n, err := loaded(func(name string) bool { return strings.HasPrefix(name, prefix) })
	return n > 0, err
}

// Loaded is how many programs of a name the kernel has.
func Loaded(name string) (int, error) { return loaded(func(n string) bool { return n == name }) }

// loaded is how many programs the kernel has of names that match.
func loaded(matches func(name string) bool) (count int, err error) {
	for id := uint32(0); ; {
		if id, err = bpf.NextID(id); err != nil || id == 0 {
			return count, err
		}
		info, err := infoOf(id)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return count, err
		}
		if err == nil && matches(info.Name) {
			count++
		}
	}
}

// infoOf is what the program of an id tells of itself. The error is unix.ENOENT where it is gone.
func infoOf(id uint32) (bpf.Info, error) {
	fd, err := bpf.ByID(id)
	if err != nil {
		return bpf.Info{}, err
	}
	defer unix.Close(fd)
	return bpf.InfoOf(fd)
}

type held struct {
	id  uint32
	tag [unix.BPF_TAG_SIZE]byte
}

// attached are the programs of the name in the cgroup.
func (p Program) attached() (out []held, err error) {
	dir, err := os.Open(p.Cgroup)
	if err != nil {
		return nil, p.failed("find", err)
	}
	defer dir.Close()
	ids, err := bpf.Attached(int(dir.Fd()), hook, 0)
	if err != nil {
		return nil, p.failed("find", err)
	}
	for _, id := range ids {
		info, err := infoOf(id)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, p.failed("find", err)
		}
		if info.Name == p.Name {
			out = append(out, held{id, info.Tag})
		}
	}
	return out, nil
}
