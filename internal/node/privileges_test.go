// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/scratch"
)

// The environment of an agent that runs in a process of its own.
const (
	agentCacheEnv = "WEIR_TEST_AGENT_CACHE" // libcni's notes
	agentStateEnv = "WEIR_TEST_AGENT_STATE"
	agentProcEnv  = "WEIR_TEST_AGENT_PROC" // the source is /proc
)

func TestMain(m *testing.M) {
	if os.Getenv(agentStateEnv) == "" {
		os.Exit(m.Run())
	}
	if err := agentOfItsOwn(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// agentOfItsOwn is an agent in a process of its own, which TestPrivileges starts: it prints its log, and the state
// of each pod once all were looked at.
func agentOfItsOwn() error {
	settings, err := cni.ReadNode(nil)
	if err != nil {
		return err
	}
	sources := []inventory.Source{inventory.Cache(os.Getenv(agentCacheEnv))}
	if os.Getenv(agentProcEnv) != "" {
		sources = []inventory.Source{inventory.Processes{}}
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	a, err := New(Options{Node: settings, Sources: sources, Log: log, StateDir: os.Getenv(agentStateEnv), Sweep: time.Hour, Limits: keep.DefaultLimits()})
	if err != nil {
		fmt.Println("it does not start:", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	<-a.Listed()
	looked := func() bool {
		return !slices.ContainsFunc(a.Pods(), func(s Status) bool { return s.State == StateUnknown })
	}
	for !looked() && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	for _, s := range a.Pods() {
		fmt.Println(s.Pod, s.Netns, s.State, s.Wrong)
	}
	cancel()
	return <-ended
}

// TestPrivileges: the agent works with the capabilities that its manifest gives it, and without one of them it says
// which is missing.
func TestPrivileges(t *testing.T) {
	need(t, "nft", "ip", "setpriv", "nsenter", "unshare")
	n := newTestNode(t, 0)
	p := n.addPod("pod", redirected)
	p.sh(t, "ip link set lo up")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Its own mounts, so that namespaces are opened by name rather than through this process, and its own processes,
	// of which one of another user is in the pod's namespace alone.
	const inside = `mount --bind "$POD" "$POD_FILE"; mount --bind "$HOST" "$HOST_FILE"
exec unshare --pid --fork --kill-child --mount-proc nsenter --net="$HOST_FILE" sh -ec '
nsenter --net="$POD_FILE" setpriv --reuid 65534 --clear-groups sleep 1000 &
until read -r comm </proc/$!/comm && [ "$comm" = sleep ]; do sleep 0.01; done
setpriv --bounding-set "$BOUNDING" --inh-caps -all -- "$SELF"'`
	podFile, hostFile := filepath.Join(n.state, "pod"), filepath.Join(n.state, "host")
	scratch.Must(t, os.WriteFile(podFile, nil, 0o600), os.WriteFile(hostFile, nil, 0o600))
	p.noted = podFile
	n.note(p, redirected)
	run := func(caps []string, env ...string) string {
		t.Helper()
		bounding := "-all"
		for _, c := range caps {
			bounding += ",+" + c
		}
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-ec", inside)
		cmd.Env = append(os.Environ(), append(env, "POD="+p.Path(), "POD_FILE="+podFile, "HOST="+n.host.Path(), "HOST_FILE="+hostFile, "BOUNDING="+bounding, "SELF="+self,
			agentCacheEnv+"="+n.cache, agentStateEnv+"="+n.state)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	given := []string{"net_admin", "sys_admin", "net_broadcast"}
	without := func(name string) []string {
		return slices.DeleteFunc(slices.Clone(given), func(c string) bool { return c == name })
	}
	for _, tt := range []struct{ missing, says string }{
		{"net_broadcast", "it does not start: hear other network namespaces: operation not permitted (this needs CAP_NET_BROADCAST)"},
		{"net_admin", "CAP_NET_ADMIN"},
		{"sys_admin", "CAP_SYS_ADMIN"},
	} {
		got := run(without(tt.missing))
		if !strings.Contains(got, tt.says) || strings.Contains(got, " captured []") {
			t.Errorf("without %s it does not say %q:\n%s", tt.missing, tt.says, got)
		}
	}
	if got := run(given); !strings.Contains(got, "shop/pod "+podFile+" captured []") {
		t.Errorf("with what it is given:\n%s", got)
	}

	const hidden = "some processes may not be looked at (this needs CAP_SYS_PTRACE)"
	p.sh(t, "nft flush ruleset")
	if got := run(given, agentProcEnv+"=1"); !strings.Contains(got, hidden) || strings.Contains(got, "/ns/net") {
		t.Errorf("by processes, without sys_ptrace:\n%s", got)
	}
	if got := run(append(given, "sys_ptrace"), agentProcEnv+"=1"); strings.Contains(got, hidden) || !strings.Contains(got, "/ns/net left []") {
		t.Errorf("by processes, with sys_ptrace:\n%s", got)
	}
}
