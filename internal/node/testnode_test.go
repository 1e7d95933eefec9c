// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/ledger"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// testNode is a machine of namespaces: one is its own, the others are pods, of which libcni's notes tell.
type testNode struct {
	testing.TB
	host  *scratch.Namespace
	cache string
	state string
	pods  []*testPod
	told  recorder
	agent *Agent
	ended chan error
	stop  context.CancelFunc
}

type testPod struct {
	*scratch.Namespace
	name   string
	config string
	noted  string // the path that libcni notes, where it is another than the namespace's
}

// recorder keeps findings, by pod.
type recorder struct {
	mu       sync.Mutex
	findings map[string][]keep.Finding // of each pod the last
	count    map[string]int            // of them all
	escaped  map[string]escapes.Count
	overruns int
}

func (r *recorder) Found(p inventory.Pod, _ Status, f keep.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const last = 32
	all := r.findings[p.Name]
	if len(all) == last { // a soak has a million
		copy(all, all[1:])
		all = all[:last-1]
	}
	r.findings[p.Name] = append(all, f)
	r.count[p.Name]++
}

func (r *recorder) Applied(capture.Report, error) {}

func (r *recorder) Escaped(p inventory.Pod, _ Status, n escapes.Count) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.escaped[p.Name]
	r.escaped[p.Name] = escapes.Count{Out: before.Out + n.Out, In: before.In + n.In}
}

func (r *recorder) Overrun() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overruns++
}

// latest is what was told of a pod at last, and how often something was.
func (r *recorder) latest(pod string) (f keep.Finding, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := r.findings[pod]; len(all) > 0 {
		f = all[len(all)-1]
	}
	return f, r.count[pod]
}

func (r *recorder) of(pod string) []keep.Finding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.findings[pod])
}

// annotated is a configuration whose rules need everything that can drift: policy rules, routes, an address on
// lo, and settings.
const annotated = `{"version": 1, "mode": "sidecar", "proxy": {"uids": [1337]}, "inbound": {"via": "tproxy", "excludePorts": [15020, 15021]}, "outbound": {"excludeCIDRs": ["10.9.0.0/16"]}}`

// untracked is one whose rules need settings too.
const untracked = `{"version": 1, "mode": "sidecar", "conntrack": "none", "proxy": {"mark": 1339}, "inbound": {"via": "tproxy", "includePorts": [8080]}, "outbound": {"via": "tproxy"}}`

func newTestNode(t testing.TB, pods int) *testNode {
	t.Helper()
	n := &testNode{TB: t, host: scratch.ForTest(t), cache: t.TempDir(), state: t.TempDir()}
	n.told.findings, n.told.count, n.told.escaped = map[string][]keep.Finding{}, map[string]int{}, map[string]escapes.Count{}
	for i := range pods {
		n.addPod(fmt.Sprintf("pod-%d", i), annotated)
	}
	return n
}

// addPod makes a pod whose network is joined to the machine's, and notes it as libcni does.
func (n *testNode) addPod(name, config string) *testPod {
	n.Helper()
	p := &testPod{Namespace: scratch.ForTest(n), name: name, config: config}
	i := len(n.pods)
	scratch.Must(n, scratch.Veth(n.host, fmt.Sprintf("veth%d", i), p.Namespace, "eth0"), p.Up("eth0"),
		p.AddAddress("eth0", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, byte(i >> 8), byte(i)}), 24)),
		p.AddAddress("eth0", netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x88, 14: byte(i >> 8), 15: byte(i)}), 64)))
	n.note(p, config)
	n.pods = append(n.pods, p)
	return p
}

func (n *testNode) note(p *testPod, config string) {
	n.Helper()
	note := map[string]any{"kind": "cniCacheV1", "containerId": p.name, "ifName": "eth0", "networkName": "net", "netns": cmp.Or(p.noted, p.Path()),
		"cniArgs":        [][2]string{{"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", p.name}, {"K8S_POD_UID", "uid-" + p.name}},
		"capabilityArgs": map[string]any{"io.kubernetes.cri.pod-annotations": map[string]string{"weir.dev/config": config}}}
	text, err := json.Marshal(note)
	scratch.Must(n, err, os.WriteFile(filepath.Join(n.cache, "net-"+p.name+"-eth0"), text, 0o600))
}

func (n *testNode) written() ledger.Ledger { return ledger.Ledger(filepath.Join(n.state, "written")) }

// start runs the agent on the machine until the test ends.
func (n *testNode) start() {
	n.Helper()
	node, err := cni.ReadNode(nil)
	scratch.Must(n, err)
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	err = n.host.Do(func() (err error) {
		n.agent, err = New(Options{Node: node, Sources: []inventory.Source{inventory.Cache(n.cache)}, Tell: []Teller{&n.told}, Log: log,
			StateDir: n.state, Written: n.written(), Sweep: time.Hour, Limits: keep.DefaultLimits()})
		return err
	})
	scratch.Must(n, err)
	ctx, cancel := context.WithCancel(context.Background())
	n.ended = make(chan error, 1)
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-n.ended; err != nil {
			n.Error(err)
		}
	})
	go func() { n.ended <- n.agent.Run(ctx) }()
	n.Cleanup(n.stop)
}

// settled waits until every pod is captured, and told of.
func (n *testNode) settled() {
	n.Helper()
	n.settledWithin(time.Minute)
}

// settledWithin is settled with another time.
func (n *testNode) settledWithin(limit time.Duration) {
	n.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		states := n.agent.Pods()
		if len(states) == len(n.pods) && !slices.ContainsFunc(states, func(s Status) bool { return s.State != StateCaptured && s.State != StateBlocked }) &&
			!slices.ContainsFunc(n.pods, func(p *testPod) bool { return len(n.told.of(p.name)) == 0 }) {
			return
		}
		if time.Now().After(end) {
			n.Fatalf("not every pod is captured within %s", limit)
		}
	}
}

// sh runs a script in the pod, of nft and ip.
func (p *testPod) sh(t testing.TB, script string) {
	t.Helper()
	if err := p.Do(func() error { return run("sh", "-ec", script) }); err != nil {
		t.Fatal(err)
	}
}

// run runs a program in the calling thread's network namespace.
func run(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%q: %w\n%s", args, err, out)
	}
	return nil
}

func need(t testing.TB, programs ...string) {
	t.Helper()
	if unix.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s", p)
		}
	}
}
