// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/cgroupmark"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// TestUntrackedKilled kills applies and removes with SIGKILL at any moment of their work. The rules in force
// are those of before or those of after, whole; while they capture without connection tracking the
// program that gives the proxy's mark is there, and right; the next apply or remove mends what is left.
func TestUntrackedKilled(t *testing.T) {
	k := newUntrackedKilling(t)
	rounds := howOften(2, 40)
	if testing.Short() {
		rounds = 1
	}
	for _, p := range []struct {
		why      string
		from, to captureState
	}{
		{"a first apply", noCapture, untracking},
		{"connection tracking before", tracking, untracking},
		{"connection tracking after", untracking, tracking},
		{"another cgroup and other rules", untracking, otherwise},
		{"a remove", untracking, noCapture},
	} {
		seen := map[string]int{}
		for range rounds {
			r := rand.Float64() // most work is done early
			k.round(p.from, p.to, time.Duration(2*r*r*float64(k.spans[p.to])), seen)
			if t.Failed() {
				t.Fatal(p.why)
			}
		}
		t.Logf("%s: killed %d times within %s: %v", p.why, rounds, k.spans[p.to], seen)
	}
	k.hold(noCapture)
}

// A captureState is what a pod's namespace and the proxies' cgroups hold.
type captureState int

const (
	noCapture captureState = iota
	tracking
	untracking
	otherwise // captured without tracking too, by a proxy in another cgroup
)

type untrackedKilling struct {
	*cli
	configs map[captureState]string
	tables  map[captureState]rules.State
	program map[captureState]cgroupmark.Program // of those that have one
	mount   string
	held    captureState
	spans   map[captureState]time.Duration // how long it takes to get there undisturbed
}

func newUntrackedKilling(t *testing.T) *untrackedKilling {
	path, _ := proxyCgroup(t)
	c := newCLI(t)
	c.dualStack()
	k := &untrackedKilling{cli: c, tables: map[captureState]rules.State{}, program: map[captureState]cgroupmark.Program{}, spans: map[captureState]time.Duration{}}
	var err error
	if k.mount, err = netns.Cgroup2Mount(); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(path, "inner")
	if err := unix.Mkdir(filepath.Join(k.mount, inner), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Rmdir(filepath.Join(k.mount, inner)) })
	var inode unix.Stat_t
	c.do(func() error { return unix.Stat("/proc/thread-self/ns/net", &inode) })
	assigning := func(path, config string) string {
		return strings.Replace(config, "mark: 0x53d/0xfff", "mark: 0x53d/0xfff, cgroups: ["+path+"], assignMark: true", 1)
	}
	k.configs = map[captureState]string{
		tracking:   "mode: sidecar\nproxy: {uids: [1337]}\n",
		untracking: assigning(path, untrackedConfig),
		otherwise:  assigning(inner, strings.Replace(untrackedConfig, "outbound: {via: tproxy}", "outbound: {via: tproxy, excludePorts: [25]}", 1)),
	}
	for state, path := range map[captureState]string{untracking: path, otherwise: inner} {
		k.program[state] = cgroupmark.Program{Cgroup: filepath.Join(k.mount, path), Name: cgroupmark.NameOf(tableName, inode.Ino), Mark: untrackedMark}
	}
	probe := cgroupmark.Program{Cgroup: filepath.Join(k.mount, path), Name: "weir_probe", Mark: untrackedMark}
	if _, err := probe.Attach(); err != nil {
		t.Skip(err)
	}
	if _, err := cgroupmark.DetachAll(k.mount, probe.Name); err != nil {
		t.Fatal(err)
	}
	for _, s := range []captureState{tracking, untracking, otherwise, noCapture} {
		k.hold(s)
		k.tables[s] = k.table()
	}
	return k
}

// arguments make the namespace hold a state.
func (k *untrackedKilling) arguments(s captureState) (stdin string, args []string) {
	if s == noCapture {
		return "", []string{"remove"}
	}
	return k.configs[s], []string{"apply", "-f", "-"}
}

// hold makes the namespace hold a state, and proves that it does, and that there is nothing else.
func (k *untrackedKilling) hold(s captureState) {
	k.Helper()
	stdin, args := k.arguments(s)
	start := time.Now()
	k.feed(stdin, args...).want(k, 0)
	if took := time.Since(start); k.held != s && (k.spans[s] == 0 || took < k.spans[s]) {
		k.spans[s] = took
	}
	k.held = s
	if s != noCapture {
		k.feed(stdin, "verify", "-f", "-").want(k, 0)
	} else if left := k.ours(); len(left) > 0 || len(k.cli.tables()) > 0 {
		k.Errorf("a remove leaves %v %v", k.cli.tables(), left)
	}
	k.onlyProgram(s)
}

// onlyProgram fails the test where the program of a state is not there, or another one is.
func (k *untrackedKilling) onlyProgram(s captureState) {
	k.Helper()
	k.hasProgram(s)
	others, err := cgroupmark.Others(k.mount, k.program[untracking].Name)
	if err != nil {
		k.Fatal(err)
	}
	for _, p := range others {
		if p.Cgroup != k.program[s].Cgroup {
			k.Errorf("state %d holds, and cgroup %s has a program", s, p.Cgroup)
		}
	}
}

func (k *untrackedKilling) hasProgram(s captureState) {
	k.Helper()
	p, has := k.program[s]
	if !has {
		return
	}
	if is, others, err := p.Attached(); !is || others > 0 || err != nil {
		k.Errorf("state %d is in force, and of its program in %s there is %v, %d others, %v", s, p.Cgroup, is, others, err)
	}
}

func (k *untrackedKilling) table() rules.State {
	k.Helper()
	live, err := k.conn().Read(context.Background(), tableName)
	if err != nil {
		k.Fatal(err)
	}
	return rules.State{Table: live.State.Table}
}

func (k *untrackedKilling) round(from, to captureState, delay time.Duration, seen map[string]int) {
	k.Helper()
	k.hold(from)
	stdin, args := k.arguments(to)
	cmd, _, _ := k.command(stdin, args...)
	k.launch(cmd)
	for start := time.Now(); time.Since(start) < delay; { // a sleep is too coarse
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it may have ended before

	have := k.table()
	switch {
	case have.Equal(k.tables[from]):
		seen["former"]++
		k.held = from
		k.hasProgram(from)
	case have.Equal(k.tables[to]):
		seen["new"]++
		k.held = to
		k.hasProgram(to)
	default:
		k.Errorf("neither state %d nor %d is in force:\n%s", from, to, k.nft("list ruleset"))
	}
	k.hold([]captureState{from, to, otherwise, noCapture}[rand.N(4)])
}

// TestUntrackedWithoutCgroups: where cgroup v2 is not mounted, assignMark is refused before anything is
// changed; what needs no cgroup goes on.
func TestUntrackedWithoutCgroups(t *testing.T) {
	c := newCLI(t)
	c.dualStack()
	mount, err := netns.Cgroup2Mount()
	if err != nil {
		t.Fatal(err)
	}
	unmounted := func(stdin string, args ...string) outcome {
		t.Helper()
		cmd, out, errs := c.command(stdin, args...)
		err := inMounts(func() error {
			if mount != "" {
				if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
					return err
				}
			}
			return c.within(func() error { _ = cmd.Run(); return nil }) // the exit code tells
		})
		if err != nil {
			t.Fatal(err)
		}
		return ended(cmd, args, out.String(), errs.String())
	}
	config := strings.Replace(untrackedConfig, "mark: 0x53d/0xfff", "mark: 0x53d/0xfff, cgroups: [proxy.slice], assignMark: true", 1)
	unmounted(config, "apply", "-f", "-").want(t, 2).says(t, "proxy.assignMark: needs cgroup v2, which is not mounted here")
	if tables := c.tables(); len(tables) > 0 || len(c.ours()) > 0 {
		t.Errorf("what was refused left %v %v", tables, c.ours())
	}
	unmounted(untrackedConfig, "apply", "-f", "-").want(t, 0)
	unmounted(untrackedConfig, "verify", "-f", "-").want(t, 0)
	unmounted("", "remove").want(t, 0)
}
