// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	engine "github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// entry is a way to apply rules: a command, or a program that uses the engine.
type entry struct {
	name string
	args []string     // of the command
	as   modes.Config // of the library
}

func entries() []entry {
	sidecar := modes.Config{Mode: modes.ModeSidecar, IPv6: "disabled", Proxy: modes.Proxy{UIDs: []string{"1337"}}}
	pod := modes.Config{Mode: modes.ModeAmbientPod, IPv6: "disabled"}
	host := modes.Config{Mode: modes.ModeAmbientHost, IPv6: "disabled"}
	return []entry{
		{name: "apply", args: []string{"apply", "--mode", "sidecar", "--proxy-uids", "1337", "--ipv6", "disabled"}},
		{name: "apply of ambient-pod", args: []string{"apply", "--mode", "ambient-pod", "--ipv6", "disabled"}},
		{name: "istio-init", args: []string{"istio-init", "-i", "*", "-b", "*"}},
		{name: "ambient pod", args: []string{"ambient", "pod", "apply", "--v6=false"}},
		{name: "ambient host", args: []string{"ambient", "host", "apply", "--v6=false"}},
		{name: "library, sidecar", as: sidecar},
		{name: "library, ambient-pod", as: pod},
		{name: "library, ambient-host", as: host},
	}
}

// reply is what comes of an entry, alike for commands and the library: an exit code
// as the command has it, and what is told.
type reply struct {
	code int
	text string
}

func (e entry) do(t *testing.T, c *cli) reply {
	t.Helper()
	if e.args != nil {
		o := c.run(e.args...)
		if o.signal == syscall.SIGSYS { // it was let work in the machine's own namespace
			return reply{0, o.errs}
		}
		return reply{o.code, o.errs}
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	k, err := engine.New(ns, e.as, engine.Options{Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	r, err := k.Apply(t.Context())
	var text []string
	for _, m := range r.Messages() {
		text = append(text, m.String())
	}
	switch {
	case errors.Is(err, engine.ErrHostNetwork):
		return reply{2, err.Error()}
	case err != nil:
		return reply{1, err.Error()}
	}
	return reply{0, strings.Join(text, "\n")}
}

// TestOnePolicy walks every policy through every entry: none has one of its own.
func TestOnePolicy(t *testing.T) {
	needUsers(t)
	all := newCLI(t).with(func(c *cli) { c.program = release(t, "v1.2.3") })
	for _, tt := range []struct {
		policy  string
		prepare func(t *testing.T, n *namespace)
		want    map[string]reply // by the entry's name; any other is done without a word of it
		word    string           // that only those tell
	}{
		{"lo is down", func(t *testing.T, n *namespace) { n.ip("link set lo down") }, map[string]reply{
			"apply":                {0, "lo is down: what is redirected would not reach the proxy"},
			"istio-init":           {0, "lo is down: what is redirected would not reach the proxy"},
			"library, sidecar":     {0, "lo is down: what is redirected would not reach the proxy"},
			"apply of ambient-pod": {1, "lo is down: what is redirected would not reach the proxy (set it up first)"},
			"ambient pod":          {1, "lo is down: what is redirected would not reach the proxy (set it up first)"},
			"library, ambient-pod": {1, "lo is down: what is redirected would not reach the proxy (set it up first)"},
		}, "lo is down"},
		{"a newer program's rules", func(t *testing.T, n *namespace) { applyAs(t, n, "v9.9.9") }, everyEntry(
			reply{0, "what was here was written by weir v9.9.9, which is newer than this, v1.2.3"}), "newer than this"},
		{"an older program's rules", func(t *testing.T, n *namespace) { applyAs(t, n, "v0.0.1") }, nil, "newer than this"},
		{"another program's chain runs first", func(t *testing.T, n *namespace) {
			n.nft("add table ip mesh; add chain ip mesh out { type nat hook output priority -150; }; add chain ip mesh in { type nat hook prerouting priority -150; }; add rule ip mesh out meta l4proto tcp redirect to :9; add rule ip mesh in meta l4proto tcp redirect to :9")
		}, map[string]reply{
			"apply":                {0, "chain out of table ip mesh (nat output -150) sends outbound TCP (IPv4)"},
			"apply of ambient-pod": {0, "chain out of table ip mesh (nat output -150) sends outbound TCP (IPv4)"},
			"istio-init":           {0, "chain out of table ip mesh (nat output -150) sends outbound TCP (IPv4)"},
			"ambient pod":          {0, "chain out of table ip mesh (nat output -150) sends outbound TCP (IPv4)"},
			"library, sidecar":     {0, "chain out of table ip mesh (nat output -150) sends outbound TCP (IPv4)"},
			"library, ambient-pod": {0, "chain out of table ip mesh (nat output -150) sends outbound TCP (IPv4)"},
		}, "elsewhere than to the proxy"},
		{"a table that weir did not write", func(t *testing.T, n *namespace) { n.nft("add table inet weir") }, everyEntry(
			reply{1, "table inet weir is there, and weir did not write it"}), ""},
	} {
		for _, e := range entries() {
			t.Run(tt.policy+"/"+e.name, func(t *testing.T) {
				n := newNamespace(t)
				tt.prepare(t, n)
				got := e.do(t, all.with(func(c *cli) { c.namespace = n }))
				want, told := tt.want[e.name]
				if got.code != want.code || told && !strings.Contains(got.text, want.text) || !told && strings.Contains(got.text, tt.word) {
					t.Errorf("exit %d, %q; want %d, %q", got.code, got.text, want.code, want.text)
				}
			})
		}
	}
}

// everyEntry is one reply for all.
func everyEntry(a reply) map[string]reply {
	all := map[string]reply{}
	for _, e := range entries() {
		all[e.name] = a
	}
	return all
}

// applyAs applies rules that no entry wants, as a program of that version.
func applyAs(t *testing.T, n *namespace, version string) {
	t.Helper()
	want, _, err := modes.State(modes.Config{Mode: modes.ModeAmbientPod, IPv6: "enabled"}, modes.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.conn().Session("weir", version).Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
}

// TestOnePolicyOfTheHostNetwork: what captures what everything on a machine opens is
// refused there. The kernel ends a run that opens a netlink socket, so none can do harm.
func TestOnePolicyOfTheHostNetwork(t *testing.T) {
	isolated(t)
	machine := initialNamespace(t)
	if machine == nil {
		t.Skip("no process in reach is in the machine's own network namespace")
	}
	c := &cli{namespace: machine, program: install(t, sharedDir(t)), guard: true}
	allowed := []string{"istio-init", "ambient host", "library, ambient-host"}
	for _, e := range entries() {
		if e.args == nil && slices.Contains(allowed, e.name) {
			continue // nothing would end this process before it did harm
		}
		got := e.do(t, c)
		refused := got.code == 2 && strings.Contains(got.text, "the machine's own network namespace: applying here")
		if isAllowed := slices.Contains(allowed, e.name); refused == isAllowed || isAllowed && got.code != 0 {
			t.Errorf("%s: exit %d, %q", e.name, got.code, got.text)
		}
	}
}

// TestOnePolicyOfTheProbeSet: every way to apply mode ambient-host keeps it, and no
// way applies an empty state.
func TestOnePolicyOfTheProbeSet(t *testing.T) {
	needUsers(t)
	for name, again := range map[string]func(c *cli, k *engine.Capture) error{
		"apply": func(c *cli, _ *engine.Capture) error {
			c.ok("apply", "--mode", "ambient-host", "--ipv6", "enabled")
			return nil
		},
		"ambient host": func(c *cli, _ *engine.Capture) error { c.ok("ambient", "host", "apply", "--v6"); return nil },
		"library":      func(c *cli, k *engine.Capture) error { _, err := k.Apply(c.Context()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCLI(t)
			c.ok("ambient", "host", "apply", "--v6=false")
			c.ok("ambient", "host", "pods", "add", "--pod", "1f0c", "10.244.1.7")
			ns, err := netns.Open(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.file.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			k, err := engine.New(ns, modes.Config{Mode: modes.ModeAmbientHost, IPv6: "enabled"}, engine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if err := again(c, k); err != nil {
				t.Fatal(err)
			}
			pods, err := k.Pods(t.Context())
			if err != nil || len(pods) != 1 || pods[netip.MustParseAddr("10.244.1.7")] != "1f0c" {
				t.Errorf("the probe set holds %v, %v", pods, err)
			}
			nothing, err := engine.OfTable(ns, "weir", engine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer nothing.Close()
			if _, err := nothing.Apply(t.Context()); !errors.Is(err, engine.ErrEmptyState) {
				t.Errorf("an empty state: %v", err)
			}
		})
	}
}
