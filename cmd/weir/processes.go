package main

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/netns"
)

// process is one of those that /proc lists.
type process struct {
	PID    int
	Name   string
	parent int
	uid    uint32 // of the file system: that of the sockets that it opens
	netns  uint64 // the inode of its network namespace, 0 where it may not be seen
	pod    string // the UID of the pod whose cgroup it is in, "" for none
	doubt  error  // why it is of no pod although its cgroup names one
	memory bool   // of its own: neither a thread of the kernel's nor a process that ended
}

// processes are all that /proc lists and that may be looked at, oldest first as
// far as PIDs tell. Those that end meanwhile are left out.
func processes() ([]process, error) {
	pids, err := netns.PIDs()
	if err != nil {
		return nil, err
	}
	cgroups, err := nodepods.ReadCgroups()
	if err != nil {
		return nil, err
	}
	var out []process
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

func readProcess(handle *netns.Process, cgroups *nodepods.Cgroups) (process, error) {
	status, err := handle.Status()
	if err != nil {
		return process{}, err
	}
	p := process{PID: handle.PID, Name: status.Name, parent: status.Parent, uid: status.FSUID, memory: status.Memory}
	p.netns, _ = handle.Netns()
	if text, err := handle.ReadFile("cgroup"); err == nil {
		p.pod, p.doubt = cgroups.Pod(text)
	}
	return p, nil
}

func (p process) String() string { return fmt.Sprintf("%d (%s)", p.PID, escape.Text(p.Name)) }

// families are the topmost of the processes: those that none of the others
// started.
func families(list []process) []process {
	var out []process
	for _, p := range list {
		if !slices.ContainsFunc(list, func(o process) bool { return o.PID == p.parent }) {
			out = append(out, p)
		}
	}
	return out
}
