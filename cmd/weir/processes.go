package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// process is one of those that /proc lists.
type process struct {
	PID    int
	Name   string
	parent int
	uid    uint32 // of the file system: that of the sockets that it opens
	netns  uint64 // the inode of its network namespace, 0 where it may not be seen
	pod    string // the UID of the pod whose cgroup it is in, "" for none
	memory bool   // of its own: neither a thread of the kernel's nor a process that ended
}

// processes are all that /proc lists and that may be looked at, oldest first as
// far as PIDs tell. Those that end meanwhile are left out.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b process) int { return a.PID - b.PID })
	return out, nil
}

func readProcess(pid int) (process, error) {
	p := process{PID: pid}
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return p, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(value)
		switch {
		case key == "Name":
			p.Name = strings.TrimSpace(value)
		case key == "VmSize":
			p.memory = true
		case key == "PPid" && len(fields) == 1:
			p.parent, _ = strconv.Atoi(fields[0])
		case key == "Uid" && len(fields) == 4:
			uid, _ := strconv.ParseUint(fields[3], 10, 32)
			p.uid = uint32(uid)
		}
	}
	p.netns = inode(filepath.Join(folder, "ns/net"))
	cgroup, err := os.ReadFile(filepath.Join(folder, "cgroup"))
	if err == nil {
		p.pod = podOf(string(cgroup))
	}
	return p, nil
}

// inode is the number of a file, 0 where it cannot be seen.
func inode(path string) uint64 {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0
	}
	return st.Ino
}

// podUID is a pod's UID as a kubelet writes it into the names of cgroups:
// kubepods/burstable/podUID, or kubepods-burstable-podU_I_D.slice. Static pods have
// one of 32 digits without dashes.
var podUID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})\b`)
})

func podOf(cgroup string) string {
	m := podUID().FindStringSubmatch(cgroup)
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "_", "-")
}

func (p process) String() string { return fmt.Sprintf("%d (%s)", p.PID, p.Name) }

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
