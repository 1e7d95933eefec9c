// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const containerID = "aff34703e5e1f89443e9a1bffcc80f43f74d4808a2dd22c8f88c08547b323934"

var podsMade atomic.Uint32

// newPodUID is a UID that no other pod of this machine has.
func newPodUID() string {
	return fmt.Sprintf("%08x-0a1b-4a1b-8a1b-%012x", os.Getpid(), podsMade.Add(1))
}

// cgroupTree is a cgroup of a test's own in a hierarchy, in which others are made.
// They go with the test.
type cgroupTree struct {
	t    *testing.T
	top  string
	made []string
}

// needCgroupTree skips the test where there is no hierarchy of version 2 to be changed.
func needCgroupTree(t *testing.T) *cgroupTree {
	t.Helper()
	tree := newCgroupTree(t, cgroupMount(t))
	if tree == nil {
		t.Skip("no cgroup v2")
	}
	return tree
}

// newCgroupTree is nil where there is no hierarchy, or none to be changed.
func newCgroupTree(t *testing.T, mount string) *cgroupTree {
	t.Helper()
	if mount == "" {
		t.Log("the hierarchy is not mounted")
		return nil
	}
	top := filepath.Join(mount, fmt.Sprintf("weirtest%dx%d", os.Getpid(), podsMade.Add(1)))
	c := &cgroupTree{t: t, top: top}
	if err := os.Mkdir(top, 0o755); err != nil {
		t.Logf("no cgroup can be made: %v", err)
		return nil
	}
	c.made = []string{top}
	t.Cleanup(c.remove)
	return c
}

// make makes a cgroup and those above it, and returns its folder.
func (c *cgroupTree) make(path string) string {
	c.t.Helper()
	folder := c.top
	for part := range strings.SplitSeq(path, "/") {
		folder = filepath.Join(folder, part)
		err := os.Mkdir(folder, 0o755)
		if err != nil && !errors.Is(err, os.ErrExist) {
			c.t.Fatal(err)
		}
		if err == nil {
			c.made = append(c.made, folder)
		}
	}
	return folder
}

// delegate gives a cgroup, and what is in it, to another user.
func (c *cgroupTree) delegate(path string) {
	c.t.Helper()
	if err := os.Chown(filepath.Join(c.top, path), appID, appID); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cgroupTree) remove() {
	for _, folder := range slices.Backward(c.made) {
		for range 100 {
			if err := os.Remove(folder); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(20 * time.Millisecond) // its process ends
		}
	}
}

// join moves a process into a cgroup.
func (c *cgroupTree) join(path string, pid int) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.make(path), "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// cgroupV1Mount is where a hierarchy of cgroup v1 with that controller, or name, is
// mounted, "" for none.
func cgroupV1Mount(t *testing.T, option string) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, "/proc/self/mounts")) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[2] == "cgroup" && slices.Contains(strings.Split(fields[3], ","), option) {
			return fields[1]
		}
	}
	return ""
}

// TestPodByUID: a pod is told by a cgroup as kubelets make it, all of which is
// root's; by another that has its UID in its name it cannot be hijacked.
func TestPodByUID(t *testing.T) {
	t.Parallel()
	needUsers(t)
	program := newCLI(t)
	mounts := map[string]string{"v2": cgroupMount(t), "v1": cgroupV1Mount(t, "pids"), "v1 of systemd": cgroupV1Mount(t, "name=systemd")}
	slices := func(top, class, uid string) string {
		prefix, path := top, top+".slice"
		for _, part := range []string{"kubepods", class, "pod" + strings.ReplaceAll(uid, "-", "_")} {
			if part != "" {
				prefix += "-" + part
				path += "/" + prefix + ".slice"
			}
		}
		return path
	}
	for _, tt := range []struct {
		why    string
		path   func(uid string) string
		change func(tree *cgroupTree, path, uid string)
		refuse string // what the refusal says, "" for none
	}{
		{"cgroupfs, containerd", func(uid string) string { return "kubepods/burstable/pod" + uid + "/" + containerID }, nil, ""},
		{"cgroupfs, CRI-O, guaranteed", func(uid string) string { return "kubepods/pod" + uid + "/crio-" + containerID }, nil, ""},
		{"systemd, containerd", func(uid string) string {
			return slices("kubelet", "besteffort", uid) + "/cri-containerd-" + containerID + ".scope"
		}, nil, ""},
		{"systemd, CRI-O, guaranteed", func(uid string) string {
			return slices("kubelet", "", uid) + "/crio-" + containerID + ".scope/container"
		}, nil, ""},
		{"systemd in the container, which has its cgroup delegated", func(uid string) string { return "kubepods/burstable/pod" + uid + "/" + containerID + "/init.scope" },
			func(tree *cgroupTree, path, _ string) { tree.delegate(filepath.Dir(path)) }, ""},
		{"a kubelet in the container of another pod", func(uid string) string {
			return "kubepods/burstable/pod" + uid + "/" + containerID + "/kubepods/pod" + newPodUID() + "/" + containerID
		}, nil, ""},

		{"a delegated cgroup with a folder named kubepods", func(uid string) string { return "session/kubepods/burstable/pod" + uid + "/" + containerID },
			func(tree *cgroupTree, _, _ string) { tree.delegate("session") }, "belongs to user 1000, not to root"},
		{"slices of a delegated cgroup's", func(uid string) string {
			return "user.slice/" + slices("kubelet", "", uid) + "/cri-containerd-" + containerID + ".scope"
		},
			func(tree *cgroupTree, _, _ string) { tree.delegate("user.slice") }, "belongs to user 1000, not to root"},
		{"a folder of a user's below root's kubepods", func(uid string) string { return "kubepods/burstable/pod" + uid + "/" + containerID },
			func(tree *cgroupTree, _, uid string) { tree.delegate("kubepods/burstable/pod" + uid) }, "belongs to user 1000, not to root"},
		{"a name of one's own", func(uid string) string { return "mine-pod" + uid }, nil, "is not laid out as by a kubelet"},
		{"a slice that is not in its own", func(uid string) string {
			return "kubelet-kubepods-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/crio-" + containerID + ".scope"
		}, nil, "is not laid out as by a kubelet"},
		{"a pod below the container of another", func(uid string) string {
			return "kubepods/burstable/pod" + newPodUID() + "/" + containerID + "/kubepods/pod" + uid + "/" + containerID
		}, nil, "no process of pod"},
		{"CRI-O's conmon", func(uid string) string { return "kubepods/burstable/pod" + uid + "/crio-conmon-" + containerID }, nil, "none of a container of the pod's"},
		{"the pod's own cgroup", func(uid string) string { return "kubepods/burstable/pod" + uid }, nil, "none of a container of the pod's"},
	} {
		for hierarchy, mount := range mounts {
			t.Run(tt.why+", "+hierarchy, func(t *testing.T) {
				t.Parallel()
				tree := newCgroupTree(t, mount)
				if tree == nil {
					t.Skip("internal/pods has it by a fixture")
				}
				c := program.elsewhere(t)
				uid := newPodUID()
				path, pod := tt.path(uid), c.elsewhere(t)
				pid := pod.resident()
				tree.join(path, pid)
				if tt.change != nil {
					tt.change(tree, path, uid)
				}
				config := []string{"--pod", uid, "--mode", "sidecar", "--proxy-uids", "1337"}
				listed := ""
				for _, r := range jsonOf[[]residence](t, c.ok("list", "--json")) {
					if r.PID == pid {
						listed = r.Pod
					}
				}
				if tt.refuse != "" {
					for _, command := range []string{"apply", "plan", "verify", "show", "doctor"} {
						args := append([]string{command}, config...)
						if command == "show" {
							args = args[:3]
						}
						c.run(args...).want(t, 2).says(t, "weir: --pod: no process of pod "+uid+" is on this node", tt.refuse)
					}
					if listed == uid || len(pod.tables()) > 0 {
						t.Errorf("it is listed as pod %q and has tables %v", listed, pod.tables())
					}
					return
				}
				c.run(append([]string{"apply"}, config...)...).want(t, 0).prints(t, "created: inet weir")
				c.run(append([]string{"plan", "--exit-code"}, config...)...).want(t, 0)
				c.run(append([]string{"verify"}, config...)...).want(t, 0)
				c.run("show", "--pod", uid).want(t, 0).prints(t, "table inet weir, as written")
				c.run(append([]string{"doctor"}, config...)...).want(t, 1).prints(t, "failed  captured traffic", "no listener on TCP port 15001")
				if listed != uid || len(pod.tables()) != 1 {
					t.Errorf("it is listed as pod %q and has tables %v", listed, pod.tables())
				}
			})
		}
	}
}

// TestPodOfTwoNamespaces: where the containers of a pod are in different network
// namespaces none is chosen, and both are named.
func TestPodOfTwoNamespaces(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	tree := needCgroupTree(t)
	uid := newPodUID()
	pod := "kubepods/burstable/pod" + uid + "/"
	one, two := c.elsewhere(t), c.elsewhere(t)
	first, second, hijacker := one.resident(), one.resident(), two.resident()
	tree.join(pod+strings.Repeat("a", 64), first)
	tree.join(pod+strings.Repeat("b", 64), second)
	args := []string{"apply", "--pod", uid, "--mode", "sidecar", "--proxy-uids", "1337"}
	c.run(args...).want(t, 0).prints(t, "created: inet weir")

	// What is not root's is not the pod's, and keeps no pod from its capture.
	tree.join("session/"+pod+strings.Repeat("c", 64), hijacker)
	tree.delegate("session")
	c.run(args...).want(t, 0).prints(t, "unchanged: inet weir")
	if tables := two.tables(); len(tables) > 0 {
		t.Errorf("the hijacker's namespace has %v", tables)
	}

	tree.join(pod+strings.Repeat("d", 64), hijacker)
	for _, command := range [][]string{args, {"show", "--pod", uid}, {"verify", "--pod", uid}, append([]string{"plan"}, args[1:]...), {"doctor", "--pod", uid}} {
		c.run(command...).want(t, 2).says(t, "the containers of pod "+uid+" are in different network namespaces",
			fmt.Sprintf("process %d (\"sleep\") in net:[", min(first, second)), fmt.Sprintf("process %d (\"sleep\") in net:[", hijacker), "--pid")
	}
	if tables := two.tables(); len(tables) > 0 {
		t.Errorf("the other namespace has %v", tables)
	}
}

// TestPodThatMakesNamespaces: what a container's own processes enter is not the
// pod's network.
func TestPodThatMakesNamespaces(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	tree := needCgroupTree(t)
	uid := newPodUID()
	container := c.elsewhere(t)
	parent := container.start("nest") // starts a child in a network namespace of its own
	var inner int
	if _, err := fmt.Sscan(parent.hear(), &inner); err != nil {
		t.Fatal(err)
	}
	tree.join("kubepods/burstable/pod"+uid+"/"+containerID, parent.Process.Pid)
	tree.join("kubepods/burstable/pod"+uid+"/"+containerID+"/docker/inner", inner)
	c.run("apply", "--pod", uid, "--mode", "sidecar", "--proxy-uids", "1337").want(t, 0).prints(t, "created: inet weir")
	if tables := container.tables(); len(tables) != 1 {
		t.Errorf("the pod's namespace has %v", tables)
	}
}
