// SPDX-License-Identifier: Apache-2.0

//go:build linux

package pods

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/netns"
)

// Process is one of those that /proc lists.
type Process struct {
	PID int
	netns.Status
	Netns uint64 // the inode of its network namespace, 0 where it may not be seen
	Pod   string // the UID of the pod whose cgroup it is in, "" for none
	Doubt error  // why it is of no pod although its cgroup names one
}

// Processes are all that /proc lists and that may be looked at, oldest first as
// far as PIDs tell. Those that end meanwhile are left out.
func Processes() ([]Process, error) {
	pids, err := netns.PIDs()
	if err != nil {
		return nil, err
	}
	cgroups, err := readCgroups()
	if err != nil {
		return nil, err
	}
	var out []Process
	for _, pid := range pids {
		handle, err := netns.OpenProcess(pid)
		if err != nil {
			continue
		}
		if p, err := readProcess(handle, cgroups); err == nil {
			out = append(out, p)
		}
		handle.Close()
	}
	return out, nil
}

func readProcess(handle *netns.Process, cgroups *Cgroups) (Process, error) {
	status, err := handle.Status()
	if err != nil {
		return Process{}, err
	}
	p := Process{PID: handle.PID, Status: status}
	p.Netns, _ = handle.Netns()
	if text, err := handle.ReadFile("cgroup"); err == nil {
		p.Pod, p.Doubt = cgroups.Pod(text)
	}
	return p, nil
}

func (p Process) String() string { return fmt.Sprintf("%d (%s)", p.PID, escape.Text(p.Name)) }

// Topmost are those of the processes that none of the others started.
func Topmost(list []Process) []Process {
	var out []Process
	for _, p := range list {
		if !slices.ContainsFunc(list, func(o Process) bool { return o.PID == p.Parent }) {
			out = append(out, p)
		}
	}
	return out
}
