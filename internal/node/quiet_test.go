// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// TestSoakQuietNode: for an hour (WEIR_SOAK_TIME) weir-node, the program itself, keeps 250 captured namespaces of which
// nothing changes. It finds nothing, heals nothing and writes no event, and holds at the end what it held after a sixth
// of the time.
func TestSoakQuietNode(t *testing.T) {
	t.Parallel()
	limit := soakTime(t, time.Hour)
	need(t, "go", "curl")
	n := newLargeNode(t)
	api := newQuietAPI(n)
	a := n.startProgram(api)
	a.awaitCaptured(api)

	var samples []sample
	var before counted
	var said int
	const parts = 60
	warm := parts / 6
	tick := time.NewTicker(limit / parts)
	defer tick.Stop()
	for i := range parts + 1 {
		if i == warm {
			before, said = a.counted(api), a.said()
		}
		s := a.sample()
		samples = append(samples, s)
		t.Logf("%6s %s", (time.Duration(i) * limit / parts).Round(time.Second), s)
		if i < parts {
			<-tick.C
		}
	}
	if after := a.counted(api); after != before {
		t.Errorf("where nothing changed it found\n%+v, and before\n%+v", after, before)
	}
	for _, line := range a.log()[said:] {
		t.Errorf("where nothing changed it says %s", line)
	}
	early, late := samples[warm:2*warm], samples[parts-warm:]
	for _, held := range []struct {
		what  string
		of    func(sample) int
		grows float64 // of what it held early, that is no growth
	}{
		{"RSS in kB", func(s sample) int { return s.rss }, 0.05},
		{"descriptors", func(s sample) int { return s.descriptors }, 0},
		{"goroutines", func(s sample) int { return s.goroutines }, 0.1},
		{"threads", func(s sample) int { return s.threads }, 0.2},
	} {
		then, now, most := median(early, held.of), median(late, held.of), held.of(slices.MaxFunc(samples, func(a, b sample) int { return held.of(a) - held.of(b) }))
		t.Logf("%s: %d after %s, %d at the end, %d at most", held.what, then, limit*time.Duration(warm)/parts, now, most)
		if float64(now) > float64(then)*(1+held.grows) {
			t.Errorf("%s: %d, and %d before", held.what, now, then)
		}
	}
	if most := slices.MaxFunc(samples, func(a, b sample) int { return a.rss - b.rss }).rss; most*1024 > 60e6 {
		t.Errorf("RSS of %d kB", most)
	}
	spent := samples[parts].cpu - samples[warm].cpu
	t.Logf("CPU %s in %s, %.2f %% of one", spent, limit*time.Duration(parts-warm)/parts, 100*spent.Seconds()/(limit.Seconds()*float64(parts-warm)/parts))
}

func median(all []sample, of func(sample) int) int {
	var values []int
	for _, s := range all {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// sample is what the agent's process holds.
type sample struct {
	rss         int // kB
	threads     int
	descriptors int
	goroutines  int
	cpu         time.Duration
}

func (s sample) String() string {
	return fmt.Sprintf("RSS %d kB, %d descriptors, %d goroutines, %d threads, CPU %s", s.rss, s.descriptors, s.goroutines, s.threads, s.cpu)
}

// counted is how often the agent told something.
type counted struct{ drift, heals, escaped, failures, overruns, events float64 }

// program is weir-node, in a process of its own.
type program struct {
	testing.TB
	node *testNode
	pid  int
	mu   sync.Mutex
	all  []string // its log
}

const scrapeAt = "127.0.0.1:15014"

// startProgram builds weir-node and starts it on the machine, whole: with an API server, and installing the plugin.
func (n *testNode) startProgram(api *quietAPI) *program {
	n.Helper()
	folder := n.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", folder+"/",
		"github.com/weir-mesh/weir/cmd/weir-node", "github.com/weir-mesh/weir/cmd/weir-cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		n.Fatalf("%v: %s", err, out)
	}
	in := func(name string) string { return filepath.Join(folder, name) }
	scratch.Must(n, os.Mkdir(in("bin"), 0o755), os.Mkdir(in("net.d"), 0o755),
		os.WriteFile(in("net.d/10-net.conflist"), []byte(`{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}]}`), 0o644),
		os.WriteFile(in("kubeconfig"), []byte("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"http://"+api.address+"\"}}]\nusers: [{name: u, user: {}}]\n"+
			"contexts: [{name: c, context: {cluster: c, user: u}}]\ncurrent-context: c\n"), 0o600))
	cmd := exec.Command(in("weir-node"), "run", "--cni-cache", n.cache, "--netns-dir", "", "--state-dir", n.state, "--socket", in("agent.sock"),
		"--cni-bin-dir", in("bin"), "--cni-conf-dir", in("net.d"), "--kubeconfig", in("kubeconfig"), "--node-name", "node-1", "--metrics", scrapeAt, "--health", "127.0.0.1:8000")
	errs, err := cmd.StderrPipe()
	scratch.Must(n, err, n.host.Do(cmd.Start))
	a := &program{TB: n, node: n, pid: cmd.Process.Pid}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			a.mu.Lock()
			a.all = append(a.all, lines.Text())
			a.mu.Unlock()
		}
	}()
	n.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := cmd.Wait(); err != nil {
			n.Errorf("weir-node: %v", err)
		}
	})
	return a
}

func (a *program) log() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

func (a *program) said() int { return len(a.log()) }

// awaitCaptured waits until every pod is, and an event tells so.
func (a *program) awaitCaptured(api *quietAPI) {
	a.Helper()
	all := len(a.node.pods)
	for end := time.Now().Add(2 * time.Minute); a.scrape()[`weir_pods{mode="sidecar",state="captured"}`] != float64(all) || api.events() != all; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			a.Fatalf("not every pod is captured and told of within 2 m: %d events, %v\n%s", api.events(), a.scrape(), strings.Join(a.log(), "\n"))
		}
	}
}

// scrape is what the agent counts; nothing before it answers.
func (a *program) scrape() map[string]float64 {
	a.Helper()
	out := map[string]float64{}
	var text []byte
	err := a.node.host.Do(func() error {
		cmd := exec.Command("curl", "-fsS", "http://"+scrapeAt+"/metrics")
		got, err := cmd.Output()
		text = got
		return err
	})
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(text)) {
		name, value, is := strings.Cut(strings.TrimSpace(line), " ")
		if at := strings.LastIndexByte(line, '}'); at >= 0 {
			name, value, is = line[:at+1], strings.TrimSpace(line[at+1:]), true
		}
		if v, err := strconv.ParseFloat(value, 64); is && err == nil {
			out[name] = v
		}
	}
	return out
}

func (a *program) counted(api *quietAPI) counted {
	a.Helper()
	all := a.scrape()
	if len(all) == 0 {
		a.Fatal("the agent does not answer a scrape")
	}
	sum := func(name string) (out float64) {
		for key, v := range all {
			if key == name || strings.HasPrefix(key, name+"{") {
				out += v
			}
		}
		return out
	}
	return counted{sum("weir_drift_total"), sum("weir_heal_seconds_count"), sum("weir_escaped_packets_total"), sum("weir_apply_failures_total"),
		sum("weir_netlink_overruns_total"), float64(api.events())}
}

func (a *program) sample() sample {
	a.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.pid))
	stat, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.pid))
	open, err2 := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.pid))
	scratch.Must(a, err, err1, err2)
	s := sample{descriptors: len(open), goroutines: int(a.scrape()["go_goroutines"])}
	for line := range strings.Lines(string(status)) {
		switch fields := strings.Fields(line); fields[0] {
		case "VmRSS:":
			s.rss, err = strconv.Atoi(fields[1])
		case "Threads:":
			s.threads, err1 = strconv.Atoi(fields[1])
		}
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third, see proc_pid_stat(5)
	user, err2 := strconv.Atoi(fields[14-3])
	system, err3 := strconv.Atoi(fields[15-3])
	scratch.Must(a, err, err1, err2, err3)
	s.cpu = time.Duration(user+system) * time.Second / 100 // USER_HZ
	return s
}

// quietAPI stands in for an API server that has the node's pods, of which nothing changes.
type quietAPI struct {
	address string
	pods    []byte
	mu      sync.Mutex
	written int
}

func newQuietAPI(n *testNode) *quietAPI {
	n.Helper()
	var items []any
	for _, p := range n.pods {
		items = append(items, map[string]any{
			"metadata": map[string]any{"name": p.name, "namespace": "shop", "uid": "uid-" + p.name, "resourceVersion": "1", "annotations": map[string]string{"weir.dev/config": p.config},
				"managedFields": []any{map[string]any{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:status": map[string]any{}}}}},
			"spec":   map[string]any{"nodeName": "node-1", "containers": []any{map[string]any{"name": "app", "image": "app"}, map[string]any{"name": "proxy", "image": "proxy"}}},
			"status": map[string]any{"phase": "Running"},
		})
	}
	list, err := json.Marshal(map[string]any{"kind": "PodList", "apiVersion": "v1", "metadata": map[string]string{"resourceVersion": "1"}, "items": items})
	scratch.Must(n, err)
	a := &quietAPI{pods: list}
	var listener net.Listener
	scratch.Must(n, n.host.Do(func() (err error) { listener, err = net.Listen("tcp", "127.0.0.1:0"); return err }))
	a.address = listener.Addr().String()
	server := &http.Server{Handler: a}
	go func() { _ = server.Serve(listener) }() // it ends with Close
	n.Cleanup(func() { _ = server.Close() })
	return a
}

func (a *quietAPI) events() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.written
}

func (a *quietAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch q := r.URL.Query(); {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/events"):
		a.mu.Lock()
		a.written++
		a.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"kind":"Event","apiVersion":"v1"}`)
	case q.Get("sendInitialEvents") != "": // a list that is streamed, which older servers refuse like this
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":422,"reason":"Invalid","message":"sendInitialEvents is forbidden"}`)
	case q.Get("watch") != "": // nothing happens
		seconds, _ := strconv.Atoi(q.Get("timeoutSeconds"))
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(seconds) * time.Second):
		}
	case strings.HasSuffix(r.URL.Path, "/pods"):
		_, _ = w.Write(a.pods)
	case strings.HasSuffix(r.URL.Path, "/namespaces"):
		_, _ = io.WriteString(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"shop","resourceVersion":"1"}}]}`)
	default:
		http.NotFound(w, r)
	}
}
