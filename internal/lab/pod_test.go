// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

const tables = "../../integration/testdata/conformance/"

func allProbes(t testing.TB) []scratch.Probe {
	t.Helper()
	probes, err := LoadProbes(tables + "probes.json")
	scratch.Must(t, err)
	return probes
}

// untouched is what becomes of a probe where nothing is intercepted.
func untouched(p scratch.Probe) []scratch.Fate {
	own := p.Dst.IsLoopback()
	for _, l := range podLinks() {
		own = own || p.Dst == l.pod.v4.Addr() || p.Dst == l.pod.v6.Addr()
	}
	answered := scratch.Fate{Land: fmt.Sprintf("%s:%d", podName, p.DPort), Src: scratch.SourceKept}
	if p.Proto == "tcp" {
		answered.Orig = netip.AddrPortFrom(p.Dst, p.DPort)
	}
	switch {
	case p.Spoof: // the answer goes to whom the address belongs
		return []scratch.Fate{{Land: "timeout"}}
	case own && p.DPort == 9999: // where nothing listens
		return []scratch.Fate{{Land: "refused"}}
	case own:
		return []scratch.Fate{answered}
	case p.Namespace == peerName: // through the pod and back to its sender, who does not take it
		return []scratch.Fate{{Land: "timeout"}, {Land: "refused"}}
	}
	answered.Land = fmt.Sprintf("%s:%d", peerName, peerPort)
	return []scratch.Fate{answered}
}

func TestAPodInWhichNothingIsIntercepted(t *testing.T) {
	pod, probes := newPod(t), allProbes(t)
	fates, err := RunProbes(t.Context(), pod, probes)
	scratch.Must(t, err)
	if len(fates) != len(probes) {
		t.Errorf("%d probes have %d fates", len(probes), len(fates))
	}
	for _, p := range probes {
		if got, want := fates[p.ID], untouched(p); !slices.Contains(want, got) {
			t.Errorf("%s: got %s, want %s", p.ID, got, want)
		}
	}
	for _, tt := range []struct{ why, id, want string }{
		{"an app reaches the world", "pod/tcp4/uid1000.gid1000->9.9.9.9:80", "peer:7000 orig=9.9.9.9:80 src=kept"},
		{"so it does by IPv6", "pod/tcp6/uid1000.gid1000->2001:db8:99::9:80", "peer:7000 orig=[2001:db8:99::9]:80 src=kept"},
		{"a resolver answers from its own address", "pod/udp4/uid1000.gid1000->10.96.0.10:53", "peer:7000 src=kept"},
		{"an app calls itself", "pod/tcp4/uid1000.gid1000->127.0.0.1:80", "pod:80 orig=127.0.0.1:80 src=kept"},
		{"an app calls itself by the pod's address", "pod/tcp6/uid1000.gid1000->2001:db8:18::2:80", "pod:80 orig=[2001:db8:18::2]:80 src=kept"},
		{"the world reaches an app", "peer/tcp4/uid1000.gid1000->198.18.1.2:8080", "pod:8080 orig=198.18.1.2:8080 src=kept"},
		{"the world reaches no one", "peer/tcp4/uid1000.gid1000->198.18.0.2:9999", "refused"},
	} {
		if got := fates[tt.id].String(); got != tt.want {
			t.Errorf("%s: %s: got %q, want %q", tt.why, tt.id, got, tt.want)
		}
	}
}

func TestTwoPodsAtOnce(t *testing.T) {
	probes := allProbes(t)
	var runs [2]map[string]scratch.Fate
	var both sync.WaitGroup
	for i := range runs {
		pod := newPod(t)
		both.Go(func() {
			var err error
			if runs[i], err = RunProbes(t.Context(), pod, probes); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	for _, p := range probes {
		if a, b := runs[0][p.ID], runs[1][p.ID]; a != b {
			t.Errorf("%s: %s in one, %s in the other", p.ID, a, b)
		}
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	pod, probes := newPod(t), allProbes(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	if _, err := RunProbes(ctx, pod, probes); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

func TestARunEndsWithTheFirstProbeThatCannotBeTried(t *testing.T) {
	pod := newPod(t)
	scratch.Must(t, pod.Peer.Close())
	_, err := RunProbes(t.Context(), pod, allProbes(t))
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want %v", err, os.ErrClosed)
	}
	pod.Peer = nil // has been closed
}

func TestRunProbesRefusesAListThatItCannotTellApart(t *testing.T) {
	p := scratch.Probe{ID: "a", Namespace: podName, Proto: "tcp", Dst: netip.MustParseAddr("192.0.2.1"), DPort: 1, SPort: 2}
	for _, tt := range []struct {
		why    string
		change func(p *scratch.Probe)
		want   string
	}{
		{"the same ID", func(p *scratch.Probe) { p.SPort = 3 }, "listed twice"},
		{"the same source port", func(p *scratch.Probe) { p.ID = "b" }, "another one also sends from tcp port 2"},
		{"no such place", func(p *scratch.Probe) { p.ID, p.SPort, p.Namespace = "b", 3, "nowhere" }, `namespace "nowhere" (want pod or peer)`},
		{"no such protocol", func(p *scratch.Probe) { p.ID, p.SPort, p.Proto = "b", 3, "sctp" }, `protocol "sctp" (want tcp or udp)`},
		{"no destination", func(p *scratch.Probe) { p.ID, p.SPort, p.Dst = "b", 3, netip.Addr{} }, "want all three"},
	} {
		other := p
		tt.change(&other)
		if _, err := RunProbes(t.Context(), nil, []scratch.Probe{p, other}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.why, err, tt.want)
		}
	}
}

func TestNothingIsLeftOfAPod(t *testing.T) {
	scratch.NeedUsers(t)
	// The runtime makes some threads and descriptors once, for good.
	build := func(ctx context.Context) error {
		pod, err := NewPod(ctx, scratch.Identity{UID: 1337, GID: 1337})
		if err != nil {
			return err
		}
		_, err = RunProbes(ctx, pod, allProbes(t)[:64])
		return errors.Join(err, pod.Close())
	}
	scratch.Must(t, build(t.Context()))
	goroutines, threads, files := left(t)

	for range 3 {
		scratch.Must(t, build(t.Context()))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := build(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: got %v, want %v", err, context.Canceled)
	}
	// Some of what the runtime keeps for reuse comes and goes by ones; a pod has dozens of each.
	const slack = 8
	scratch.Eventually(t, "all ends", func() bool {
		g, th, f := left(t)
		return g <= goroutines && th <= threads+slack && f <= files
	})
}

// left counts what a process can leave behind.
func left(t *testing.T) (goroutines, threads, files int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	scratch.Must(t, err)
	fds, err := os.ReadDir("/proc/self/fd")
	scratch.Must(t, err)
	return runtime.NumGoroutine(), len(tasks), len(fds)
}

func TestTheNamespacesOfAPodGo(t *testing.T) {
	scratch.NeedUsers(t)
	outer := scratch.ForTest(t)
	pod, err := NewPod(t.Context(), scratch.Identity{UID: 1337, GID: 1337})
	scratch.Must(t, err)
	// A link goes when the namespace of its other end does, which nothing else shows from outside.
	for name, ns := range map[string]*scratch.Namespace{"to-pod": pod.Namespace, "to-peer": pod.Peer} {
		scratch.Must(t, scratch.Veth(outer, name, ns, "witness"))
	}
	scratch.Must(t, pod.Close())
	for _, name := range []string{"to-pod", "to-peer"} {
		scratch.Eventually(t, name+" goes", func() bool { return outer.Up(name) != nil })
	}
}

func BenchmarkPod(b *testing.B) {
	scratch.NeedUsers(b)
	for b.Loop() {
		pod, err := NewPod(b.Context(), scratch.Identity{UID: 1337, GID: 1337})
		scratch.Must(b, err)
		scratch.Must(b, pod.Close())
	}
}
