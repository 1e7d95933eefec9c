// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/ambient"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/internal/zds/zdstest"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// node is a machine of its own with one pod.
type node struct {
	*ambient.Side
	host, pod *netns.Namespace
	socket    string

	mu   sync.Mutex
	told map[string]string // annotations by UID
}

func newNode(t *testing.T) *node {
	t.Helper()
	open := func() *netns.Namespace {
		ns, err := netns.Open(scratch.ForTest(t).Path())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ns.Close)
		return ns
	}
	n := &node{host: open(), pod: open(), socket: filepath.Join(t.TempDir(), "z.sock"), told: map[string]string{}}
	proxy := zds.New(zds.Options{})
	l, err := zds.Listen(n.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- proxy.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		proxy.Close()
	})
	n.Side = ambient.New(ambient.Options{Host: n.host, Proxy: proxy, Settings: ambient.Settings{DNS: true, IPv6: true},
		Annotate: func(_ context.Context, p ambient.Pod, value string) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.told[p.UID] = value
			return nil
		}})
	return n
}

func (n *node) annotation(uid string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told[uid]
}

// serve stands in for ztunnel.
func (n *node) serve(t *testing.T) {
	t.Helper()
	p, err := zdstest.Dial(n.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		for {
			_, ns, err := p.Next()
			if err != nil {
				return
			}
			if ns != nil {
				ns.Close()
			}
			if p.Ack("") != nil {
				return
			}
		}
	}()
}

func (n *node) probes(t *testing.T) string {
	t.Helper()
	c, err := capture.OfTable(n.host, modes.DefaultTable, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pods, err := c.Pods(t.Context())
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, a := range slices.SortedFunc(maps.Keys(pods), netip.Addr.Compare) {
		lines = append(lines, fmt.Sprintf("%s=%s", a, pods[a]))
	}
	return strings.Join(lines, " ")
}

var cart = ambient.Pod{Workload: zds.Workload{UID: "u1", Name: "cart", Namespace: "shop", ServiceAccount: "default"},
	Addresses: []netip.Addr{netip.MustParseAddr("10.88.0.7"), netip.MustParseAddr("fd88::7")}}

// TestEnrol: a pod without a proxy is pending, and without rules; with one it is captured, served, exempt and
// annotated; and nothing of it stays when it is released.
func TestEnrol(t *testing.T) {
	n := newNode(t)
	config := n.Settings.Config(mesh.Pod{Namespace: "shop", Name: "cart"})
	pod, err := capture.New(n.pod, config, capture.Options{LoopbackLater: true})
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	rules := func(ctx context.Context) error { _, err := pod.Apply(ctx); return err }
	verdict := func() capture.Verdict {
		v, err := pod.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}

	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.Enrol(soon, cart, n.pod, rules); !errors.Is(err, zds.ErrNoProxy) {
		t.Errorf("without a proxy: %v", err)
	}
	if v := verdict(); v.Clean() || n.annotation("u1") != ambient.Pending {
		t.Errorf("without a proxy the pod is captured, or its annotation is %q", n.annotation("u1"))
	}
	n.serve(t)
	if err := n.Enrol(t.Context(), cart, n.pod, rules); err != nil {
		t.Fatal(err)
	}
	if v := verdict(); !v.Clean() || n.annotation("u1") != ambient.Enabled {
		t.Errorf("%v, annotation %q", v.Differences, n.annotation("u1"))
	}
	const want = "10.88.0.7=u1 fd88::7=u1"
	if got := n.probes(t); got != want {
		t.Errorf("the probe set is %q, want %q", got, want)
	}

	// What others do to the host's table, and what is in its probe set of pods that have gone.
	host, err := capture.OfTable(n.host, modes.DefaultTable, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if _, err := host.AddPods(t.Context(), capture.Pods{netip.MustParseAddr("10.88.0.9"): "gone"}); err != nil {
		t.Fatal(err)
	}
	if found, err := n.Mend(t.Context()); err != nil || len(found) != 1 {
		t.Errorf("%q, %v", found, err)
	}
	if _, err := host.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := n.Mend(t.Context()); err != nil || len(found) == 0 {
		t.Errorf("%q, %v", found, err)
	}
	if got := n.probes(t); got != want {
		t.Errorf("after the host's table was removed, the probe set is %q, want %q", got, want)
	}
	if found, err := n.Mend(t.Context()); err != nil || found != nil {
		t.Errorf("where nothing is wrong: %q, %v", found, err)
	}

	if err := n.Gone(t.Context(), "u1", 1); err != nil || !n.Has("u1") { // another namespace of the same pod
		t.Errorf("%v, members %q", err, n.Members())
	}
	if err := n.Release(t.Context(), "u1"); err != nil {
		t.Fatal(err)
	}
	if got := n.probes(t); got != "" || n.annotation("u1") != "" || len(n.Members()) != 0 {
		t.Errorf("after its release: %q, annotation %q, members %q", got, n.annotation("u1"), n.Members())
	}
}

// TestConfig: what annotations of a pod change.
func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		why         string
		annotations map[string]string
		want        func(modes.Config) bool
	}{
		{"nothing is said", nil, func(c modes.Config) bool { return c.DNS.Capture == "all" && c.Inbound.Via == "" }},
		{"no DNS", map[string]string{"ambient.istio.io/dns-capture": "false"}, func(c modes.Config) bool { return c.DNS.Capture == "none" }},
		{"not a truth value", map[string]string{"ambient.istio.io/dns-capture": "no!"}, func(c modes.Config) bool { return c.DNS.Capture == "all" }},
		{"no inbound", map[string]string{"ambient.istio.io/bypass-inbound-capture": "true"}, func(c modes.Config) bool { return c.Inbound.Via == "none" }},
		{"virtual machines", map[string]string{"istio.io/reroute-virtual-interfaces": "tap0, tap1"}, func(c modes.Config) bool {
			return len(c.Interfaces.Reroute) == 2 && c.Interfaces.Reroute[1].Name == "tap1"
		}},
	} {
		c := ambient.Settings{DNS: true, IPv6: true}.Config(mesh.Pod{Annotations: tt.annotations})
		if err := modes.Check(c); err != nil || !tt.want(c) {
			t.Errorf("%s: %+v, %v", tt.why, c, err)
		}
	}
}

// TestWriteEnrolled: the file is what the plugin reads, and is not written again without need.
func TestWriteEnrolled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enrolled.json")
	for range 2 {
		if err := ambient.WriteEnrolled(path, []string{"shop", "shop"}, []string{"a/b"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	text, err := readFile(path)
	if want := `{"version":1,"namespaces":["shop"],"pods":["a/b"],"except":[]}` + "\n"; err != nil || text != want {
		t.Errorf("%q, %v, want %q", text, err, want)
	}
}

func readFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	return string(text), err
}
