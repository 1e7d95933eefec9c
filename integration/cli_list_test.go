// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/netns"
	"golang.org/x/sys/unix"
)

type residence struct {
	PID     int
	Process string
	Netns   string
	Pod     string
	Engines []string
	Tables  []struct {
		Table, Version, State string
		Clean                 bool
		Conflicts             []map[string]any
	}
	Error string
}

// resident starts a process that stays in the namespace until the test is over.
func (c *cli) resident() int {
	c.Helper()
	sleep := exec.Command("sleep", "600")
	c.do(sleep.Start)
	c.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	return sleep.Process.Pid
}

// TestList: each namespace has a row, with its pod and the engine that captures
// there.
func TestList(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	clean, drifted, theirs, unknown, nobody := c.elsewhere(t), c.elsewhere(t), c.elsewhere(t), c.elsewhere(t), c.elsewhere(t)
	for _, n := range []*cli{clean, drifted} {
		n.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")
	}
	drifted.nft("flush chain inet weir output")
	theirs.nft("table ip x {\nchain KUMA_MESH_OUTBOUND {\n}\n}\n")
	unknown.nft("table ip x {\nchain y {\ntype nat hook output priority -100\ntcp dport 80 redirect to :8080\n}\n}\n")
	uid, procs := podCgroup(t)
	pids := map[int]string{}
	for name, n := range map[string]*cli{"clean": clean, "drifted": drifted, "theirs": theirs, "unknown": unknown, "nobody": nobody} {
		pids[n.resident()] = name
	}
	for pid, name := range pids {
		if name == "clean" && procs != "" {
			if err := os.WriteFile(procs, []byte(fmt.Sprint(pid)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := map[string]residence{}
	for _, r := range jsonOf[[]residence](t, c.ok("list", "--json")) {
		if name, ours := pids[r.PID]; ours {
			found[name] = r
		}
	}
	for name, want := range map[string]string{
		"clean":   "engines [weir] clean true pod " + uid,
		"drifted": "engines [weir] clean false pod ",
		"theirs":  "engines [kuma] pod ",
		"unknown": "engines [table ip x] pod ",
		"nobody":  "engines [] pod ",
	} {
		r := found[name]
		got := fmt.Sprintf("engines %v", r.Engines)
		for _, table := range r.Tables {
			got += fmt.Sprintf(" clean %v", table.Clean)
		}
		if got += " pod " + r.Pod; got != want || r.Error != "" {
			t.Errorf("%s: listed as %q, want %q (%+v)", name, got, want, r)
		}
	}
	if text := c.ok("list"); !strings.HasPrefix(text, "PID ") || !strings.Contains(text, uid) {
		t.Errorf("the list reads\n%s", text)
	}
	c.run("show", "--pod", "0a1b2c3d-0000-0000-0000-000000000000").want(t, 2).says(t, "--pod: no process of pod 0a1b2c3d-0000-0000-0000-000000000000 is on this node")
	c.run("show", "--pod", "mine").want(t, 2).says(t, `--pod: "mine" is not a pod's UID`)
	if uid == "" {
		return
	}
	// The pod's UID does where a process's number does.
	c.run("show", "--pod", uid).want(t, 0).prints(t, "table inet weir, as written")
	c.run("show", "--pod", uid, "--pid", "1").want(t, 2).says(t, "--pod excludes --netns and --pid")
}

// TestListByName: a namespace that no process is in has a row by its name, and one that a process is in tells
// both. A name whose namespace has gone has none.
func TestListByName(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	empty, lived := c.elsewhere(t), c.elsewhere(t)
	empty.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")
	pid := lived.resident()
	cmd, out, errs := c.command("", "list", "--json")
	err := inMounts(func() error {
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := os.Mkdir(netns.Folder, 0o755); err != nil {
			return err
		}
		for name, n := range map[string]*namespace{"empty\n1": empty.namespace, "lived": lived.namespace, "gone": nil} {
			point := filepath.Join(netns.Folder, name)
			if err := os.WriteFile(point, nil, 0o644); err != nil {
				return err
			}
			if n != nil {
				if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", n.file.Fd()), point, "", unix.MS_BIND, ""); err != nil {
					return err
				}
			}
		}
		return c.within(cmd.Run)
	})
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	rows := map[string]residence{}
	for _, r := range jsonOf[[]residence](t, out.String()) {
		if r.Netns != "" {
			rows[r.Netns] = r
		}
	}
	if r := rows["empty\n1"]; r.PID != 0 || fmt.Sprint(r.Engines) != "[weir]" || r.Error != "" {
		t.Errorf("the namespace without a process: %+v", r)
	}
	if r := rows["lived"]; r.PID != pid || r.Process != "sleep" || r.Error != "" {
		t.Errorf("the namespace of process %d: %+v", pid, r)
	}
	if len(rows) != 2 {
		t.Errorf("names: %+v", rows)
	}
}

// podCgroup makes a pod's cgroup as a kubelet does. It returns the pod's UID and the
// file that takes the numbers of a container's processes; nothing where none can be
// made.
func podCgroup(t *testing.T) (uid, procs string) {
	tree := newCgroupTree(t, cgroupMount(t))
	if tree == nil {
		return "", ""
	}
	uid = newPodUID()
	return uid, filepath.Join(tree.make("kubepods/burstable/pod"+uid+"/"+containerID), "cgroup.procs")
}
