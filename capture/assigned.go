// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/weir-mesh/weir/internal/cgroupmark"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// programs are those that give the sockets of proxy.cgroups the proxy's mark, none where
// that is not asked for.
func (c *Capture) programs(want rules.State) ([]cgroupmark.Program, error) {
	if len(c.config.Proxy.Cgroups) == 0 || !want.Untracked {
		return nil, nil
	}
	if err := cgroupmark.Supported(); err != nil {
		return nil, &modes.ConfigError{Key: "proxy.assignMark", Problem: err.Error()}
	}
	mount, err := netns.Cgroup2Mount()
	if err != nil {
		return nil, err
	}
	if mount == "" {
		return nil, &modes.ConfigError{Key: "proxy.assignMark", Problem: "needs cgroup v2, which is not mounted here"}
	}
	name, err := c.programName()
	if err != nil {
		return nil, err
	}
	var out []cgroupmark.Program
	for _, path := range c.config.Proxy.Cgroups {
		out = append(out, cgroupmark.Program{Cgroup: filepath.Join(mount, filepath.Clean("/"+path)), Name: name, Mark: uint32(want.ProxyMark)})
	}
	return out, nil
}

func (c *Capture) programName() (string, error) {
	var s unix.Stat_t
	err := c.ns.Inside(func() error { return unix.Stat("/proc/thread-self/ns/net", &s) })
	if err != nil {
		return "", fmt.Errorf("identify the network namespace: %w", err)
	}
	return cgroupmark.NameOf(c.table, s.Ino), nil
}

// assignMark attaches the programs that are not there. What it returns detaches those that
// had no other one of theirs in their place.
func assignMark(programs []cgroupmark.Program) (undo func() error, err error) {
	var fresh []cgroupmark.Program
	undo = func() (err error) {
		for _, p := range fresh {
			_, failed := cgroupmark.DetachAll(p.Cgroup, p.Name)
			err = errors.Join(err, failed)
		}
		return err
	}
	for _, p := range programs {
		is, others, err := p.Attached()
		if err != nil {
			return undo, err
		}
		if !is && others == 0 {
			fresh = append(fresh, p)
		}
		if _, err := p.Attach(); err != nil {
			return undo, err
		}
	}
	return undo, nil
}

// unassigned tells which programs are not there, and which should not be.
func (c *Capture) unassigned(want rules.State) ([]rules.Difference, error) {
	programs, err := c.programs(want)
	if err != nil {
		return nil, err
	}
	var out []rules.Difference
	for _, p := range programs {
		is, others, err := p.Attached()
		if err != nil {
			return nil, err
		}
		if !is || others > 0 {
			out = append(out, rules.Difference{Where: "cgroup " + p.Cgroup, Want: fmt.Sprintf("program %s, mark %#x", p.Name, p.Mark),
				Have: fmt.Sprintf("%d other programs of that name", others)})
		}
	}
	err = c.besides(func(mount, name string) error {
		others, err := cgroupmark.Others(mount, name, programs...)
		for _, p := range others {
			out = append(out, rules.Difference{Where: "cgroup " + p.Cgroup, Have: "program " + p.Name})
		}
		return err
	})
	return out, err
}

// unassignMark detaches every program of the table's in this namespace, but for those that
// are kept.
func (c *Capture) unassignMark(keep ...cgroupmark.Program) error {
	return c.besides(func(mount, name string) error {
		_, err := cgroupmark.DetachAll(mount, name, keep...)
		return err
	})
}

// besides does something with the programs of the table's in this namespace, wherever they
// are. A process that may not look for them has attached none.
func (c *Capture) besides(do func(mount, name string) error) error {
	if any, err := cgroupmark.Any(); err != nil || !any || cgroupmark.Supported() != nil {
		return nil
	}
	mount, err := netns.Cgroup2Mount()
	if err != nil || mount == "" {
		return nil // no program can be there
	}
	name, err := c.programName()
	if err != nil {
		return nil // without /proc there is no cgroup either
	}
	err = do(mount, name)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
