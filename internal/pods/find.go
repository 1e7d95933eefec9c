// SPDX-License-Identifier: Apache-2.0

//go:build linux

package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/netns"
)

// A NotFoundError is that no process of a pod can be told on this node.
type NotFoundError struct {
	UID   string
	Doubt error // why a process that seems to be the pod's is not believed to be, nil where there is none
}

func (e *NotFoundError) Error() string {
	if e.Doubt == nil {
		return fmt.Sprintf("no process of pod %s is on this node", e.UID)
	}
	return fmt.Sprintf("no process of pod %s is on this node, but one that is not counted: %v", e.UID, e.Doubt)
}

// A DisagreementError is that the containers of a pod are in different network
// namespaces, so that it cannot be told which is the pod's.
type DisagreementError struct {
	UID     string
	Members []string // a process of each namespace
}

func (e *DisagreementError) Error() string {
	return fmt.Sprintf("the containers of pod %s are in different network namespaces: %s (name a process of the right one with --pid)", e.UID, strings.Join(e.Members, ", "))
}

// candidate is a process of a pod.
type candidate struct {
	*netns.Process
	status netns.Status
	netns  uint64
}

// Find takes a handle of the oldest process of a pod, as far as PIDs tell. It is of
// the type *NotFoundError, or *DisagreementError, that none can be told.
func Find(uid string) (*netns.Process, error) {
	all, err := candidates(uid)
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	first := heads(all)
	if len(first) == 0 {
		first = all // a process ID was used again meanwhile
	}
	if err := agree(uid, first); err != nil {
		return nil, err
	}
	oldest := first[0].Process
	all = slices.DeleteFunc(all, func(c candidate) bool { return c.Process == oldest })
	return oldest, nil
}

// candidates are the processes that are in a container of the pod's.
func candidates(uid string) ([]candidate, error) {
	cgroups, err := readCgroups()
	if err != nil {
		return nil, err
	}
	pids, err := netns.PIDs()
	if err != nil {
		return nil, err
	}
	var out []candidate
	missing := &NotFoundError{UID: uid}
	for _, pid := range pids {
		p, err := netns.OpenProcess(pid)
		if err != nil {
			continue // it ended
		}
		c, err := inspect(p, uid, cgroups)
		if c != nil {
			out = append(out, *c)
			continue
		}
		p.Close()
		switch {
		case errors.Is(err, fs.ErrPermission):
			return out, err
		case err != nil && missing.Doubt == nil:
			missing.Doubt = err
		}
	}
	if len(out) == 0 {
		return nil, missing
	}
	return out, nil
}

// inspect is a process as a candidate, nil where it is none; the error says why it is
// none although its cgroups name the pod.
func inspect(p *netns.Process, uid string, cgroups *Cgroups) (*candidate, error) {
	text, err := p.ReadFile("cgroup")
	if err != nil || !strings.Contains(undashed(string(text)), uid) {
		return nil, nil // it ended, or is of no interest
	}
	status, err := p.Status()
	if err != nil || !status.Memory {
		return nil, nil
	}
	found, doubt := cgroups.Pod(text)
	if doubt != nil {
		return nil, fmt.Errorf("process %d (%q): %w", p.PID, status.Name, doubt)
	}
	if found != uid {
		return nil, nil
	}
	ns, err := p.Netns()
	switch {
	case errors.Is(err, netns.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("process %d (%q): %w", p.PID, status.Name, err)
	}
	return &candidate{p, status, ns}, nil
}

// heads are the processes that no other of the pod's started: the runtime did, in
// the pod's network namespace. What they start may enter others, as a Docker
// daemon's containers do, and browsers' sandboxes.
func heads(all []candidate) []candidate {
	var out []candidate
	for _, c := range all {
		if !slices.ContainsFunc(all, func(o candidate) bool { return o.PID == c.status.Parent }) {
			out = append(out, c)
		}
	}
	return out
}

// agree refuses candidates of different namespaces.
func agree(uid string, all []candidate) error {
	seen := map[uint64]bool{}
	e := &DisagreementError{UID: uid}
	for _, c := range all {
		if !seen[c.netns] {
			seen[c.netns] = true
			e.Members = append(e.Members, fmt.Sprintf("process %d (%q) in net:[%d]", c.PID, c.status.Name, c.netns))
		}
	}
	if len(e.Members) > 1 {
		return e
	}
	return nil
}
