// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inventory

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/netns"
)

// Processes are the namespaces that processes are in: those of pods that neither libcni nor a name tells of.
// To see those of other users takes CAP_SYS_PTRACE, and those of the whole machine its own process IDs.
type Processes struct{}

// Name is where processes are listed.
func (Processes) Name() string { return "/proc" }

// ErrHidden is that a source told of all that it may see, and that there is more.
var ErrHidden = errors.New("the network namespaces of some processes may not be looked at (this needs CAP_SYS_PTRACE)")

// Pods lists the namespaces of processes but for the program's own, each by the oldest of them. The error matches
// ErrHidden where there are processes whose namespace cannot be told.
func (Processes) Pods(context.Context) (out []Pod, err error) {
	own, err := netns.Current().Inode()
	if err != nil {
		return nil, err
	}
	all, err := pods.Processes()
	if err != nil {
		return nil, err
	}
	at := map[uint64]int{}
	for _, p := range all {
		i, known := at[p.Netns]
		switch {
		case p.Memory && p.Netns == 0 && lives(p.PID):
			err = ErrHidden
		case !p.Memory || p.Netns == 0 || p.Netns == own:
		case !known:
			at[p.Netns] = len(out)
			out = append(out, Pod{Netns: fmt.Sprintf("/proc/%d/ns/net", p.PID), Inode: p.Netns, UID: p.Pod})
		case out[i].UID == "":
			out[i].UID = p.Pod
		}
	}
	return out, err
}

// lives reports whether a process has not ended meanwhile.
func lives(pid int) bool {
	p, err := netns.OpenProcess(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	status, err := p.Status()
	return err == nil && status.Memory
}
