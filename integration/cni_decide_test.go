// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/agent"
)

// withSocket is settings with an agent.
func withSocket(socket string) map[string]any { return map[string]any{"agentSocket": socket} }

// serveAgent stands for the node's agent. It returns the socket and what was asked.
func serveAgent(t testing.TB, answer func(agent.Request) agent.Answer) (socket string, asked func() []agent.Request) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	listener, err := agent.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []agent.Request
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- agent.Serve(ctx, listener, func(_ context.Context, r agent.Request) agent.Answer {
			mu.Lock()
			all = append(all, r)
			mu.Unlock()
			return answer(r)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket, func() []agent.Request {
		mu.Lock()
		defer mu.Unlock()
		return append([]agent.Request{}, all...)
	}
}

func (p cniPod) isCaptured(t testing.TB) bool {
	return strings.Contains(p.ruleset(t), "table inet weir")
}

// TestCNIAgent: what the agent answers wins.
func TestCNIAgent(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	whole := json.RawMessage(`{"version":1,"mode":"sidecar","proxy":{"uids":[4242]}}`)
	for _, tt := range []struct {
		answer      agent.Answer
		annotations map[string]string
		captured    bool
		code        int
		say         string
	}{
		{agent.Answer{Decision: agent.Capture, Config: whole}, nil, true, 0, ""},
		{agent.Answer{Decision: agent.Capture, Config: json.RawMessage(`{"mode":"sidecar","proxy":{"uids":["x y"]}}`)}, nil, false, 100, "proxy.uids"},
		{agent.Answer{Decision: agent.Capture, Config: json.RawMessage(`{"mode":"sidecar"}`)}, nil, false, 100, "the node agent's answer"},
		{agent.Answer{Decision: agent.Leave}, sidecarPod, false, 0, ""},
		{agent.Answer{Decision: agent.Done}, sidecarPod, false, 0, ""},
		{agent.Answer{Decision: agent.Refuse, Reason: "ztunnel is not connected", Remedy: "see its log"}, nil, false, 100, "ztunnel is not connected"},
		{agent.Answer{Decision: agent.Unknown}, sidecarPod, true, 0, ""},
		{agent.Answer{Decision: agent.Unknown}, map[string]string{}, false, 0, ""},
		{agent.Answer{Decision: "what"}, map[string]string{}, false, 0, ""},
	} {
		socket, asked := serveAgent(t, func(agent.Request) agent.Answer { return tt.answer })
		call := p.call(tt.annotations)
		call.entry = withSocket(socket)
		if o := p.plugin("ADD", call); tt.code != 0 {
			if e := o.failed(t); e.Code != tt.code || !strings.Contains(e.Msg, tt.say) || e.Details == "" {
				t.Errorf("%+v: %+v", tt.answer, e)
			}
		} else {
			o.succeeded(t)
		}
		if got := p.isCaptured(t); got != tt.captured {
			t.Errorf("%+v: captured is %v, want %v", tt.answer, got, tt.captured)
		}
		q := asked()[0]
		if q.Command != "ADD" || q.Namespace != "shop" || q.Name != "cart" || q.UID != "7c0e" || q.Netns != p.pod.Path() || len(q.Addresses) != 2 || len(q.Annotations) != len(tt.annotations) {
			t.Errorf("asked %+v", q)
		}
		p.plugin("DEL", call).succeeded(t)
		if last := asked()[len(asked())-1]; last.Command != "DEL" {
			t.Errorf("a DEL tells %+v", last)
		}
		if p.isCaptured(t) {
			t.Error("a DEL leaves the rules")
		}
	}
}

// TestCNIDeadAgent: a pod that needs the agent fails, and says so; no other pod notices, in time.
func TestCNIDeadAgent(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	dir := t.TempDir()
	silent := filepath.Join(dir, "silent.sock")
	ln, err := net.Listen("unix", silent) // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	enrolled := filepath.Join(dir, "enrolled.json")
	text := `{"version":1,"namespaces":["shop"],"pods":["bank/till"],"except":["shop/batch"]}`
	if err := os.WriteFile(enrolled, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for why, socket := range map[string]string{"no such file": filepath.Join(dir, "none.sock"), "no answer in time": silent} {
		for _, tt := range []struct {
			pod         string
			annotations map[string]string
			captured    bool
			fails       bool
		}{
			{"shop/cart", map[string]string{}, false, true},
			{"bank/till", map[string]string{}, false, true},
			{"shop/batch", map[string]string{}, false, false},
			{"bank/clerk", map[string]string{}, false, false},
			{"bank/clerk", sidecarPod, true, false},
			{"shop/cart", sidecarPod, true, false}, // a sidecar's pod is not the ambient mesh's
			{"kube-system/dns", map[string]string{}, false, false},
			{"weir-system/weir-node-x7f", map[string]string{}, false, false},
		} {
			namespace, name, _ := strings.Cut(tt.pod, "/")
			call := p.call(tt.annotations)
			call.args = "K8S_POD_NAME=" + name + ";K8S_POD_NAMESPACE=" + namespace
			call.entry = map[string]any{"agentSocket": socket, "enrolled": enrolled}
			began := time.Now()
			o := p.plugin("ADD", call)
			took := time.Since(began)
			if took > time.Minute {
				t.Errorf("%s: it took %s", tt.pod, took)
			}
			if tt.fails {
				e := o.failed(t)
				if e.Code != 11 || !strings.Contains(e.Msg, "pod "+tt.pod+" needs the node agent") || !strings.Contains(e.Msg, why) || !strings.Contains(e.Details, "the kubelet tries again") {
					t.Errorf("%+v", e)
				}
			} else {
				o.succeeded(t)
			}
			if got := p.isCaptured(t); got != tt.captured {
				t.Errorf("%s: captured is %v, want %v", tt.pod, got, tt.captured)
			}
			p.plugin("DEL", call).succeeded(t)
		}
	}
	if err := os.WriteFile(enrolled, []byte(`{"version":1,"names`), 0o600); err != nil {
		t.Fatal(err)
	}
	call := p.call(map[string]string{})
	call.entry = map[string]any{"agentSocket": filepath.Join(dir, "none.sock"), "enrolled": enrolled}
	if o := p.plugin("ADD", call); o.code != 0 || !strings.Contains(o.errs, "what the agent left on disk is not known") {
		t.Error(o)
	}
}

// TestCNIContainer: a container that is not a pod is captured by the configuration in the plugin's entry.
func TestCNIContainer(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	call := p.call(nil)
	call.args = "K8S_POD_NAME=web;IgnoreUnknown=1"
	p.plugin("ADD", call).succeeded(t)
	if p.isCaptured(t) {
		t.Error("it is captured without a configuration")
	}
	call.entry = map[string]any{"config": map[string]any{"version": 1, "mode": "sidecar", "proxy": map[string]any{"uids": []int{1337}}}}
	p.plugin("ADD", call).succeeded(t)
	p.plugin("CHECK", call).succeeded(t)
	if !p.isCaptured(t) {
		t.Error("it is not captured by its configuration")
	}
	call.entry = map[string]any{"config": map[string]any{"mode": "sidecar", "proxy": map[string]any{"uids": []string{"istio-proxy"}}}}
	e := p.plugin("ADD", call).failed(t)
	if !strings.Contains(e.Msg, "container web is not captured") || !strings.Contains(e.Msg, "the pod's image is not there yet (want numbers)") {
		t.Errorf("%+v", e)
	}
}

// TestCNISandboxes: a pod whose sandbox has a network stack of its own cannot be captured, and is not
// started as if it were; one that asks nothing is left alone.
func TestCNISandboxes(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	for annotation, product := range map[string]string{
		"dev.gvisor.spec.mount.x.share": "gVisor", "io.katacontainers.config.hypervisor.default_vcpus": "Kata Containers",
	} {
		p.plugin("ADD", p.call(map[string]string{annotation: "1"})).succeeded(t)
		e := p.plugin("ADD", p.call(map[string]string{annotation: "1", "sidecar.istio.io/status": istioStatus})).failed(t)
		if e.Code != 101 || !strings.Contains(e.Msg, product) || !strings.Contains(e.Details, "mode: none") {
			t.Errorf("%+v", e)
		}
	}
	if p.isCaptured(t) {
		t.Error("rules were left")
	}
}

// buildPlugin is the plugin with a client of the API server.
var buildPlugin = sync.OnceValues(func() ([]byte, error) { return build("./cmd/weir-cni", "") })

// TestCNIServer: where the runtime passes no annotations, the API server tells of the pod; where it does not,
// because a token has expired, it is gone or it hangs, the pod starts as it is.
func TestCNIServer(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24", "2001:db8:18::2/64")
	program, err := buildPlugin()
	if err != nil {
		t.Fatal(err)
	}
	of := p.cli.with(func(o *cli) { o.program = installAs(t, filepath.Join(sharedDir(t), "weir-cni-api"), program) })
	p.cli = of
	pod := func(annotations, labels map[string]string, containers ...map[string]any) map[string]any {
		return map[string]any{"metadata": map[string]any{"annotations": annotations, "labels": labels}, "spec": map[string]any{"containers": containers}}
	}
	proxy := map[string]any{"name": "istio-proxy", "args": []string{"proxy", "sidecar"}, "securityContext": map[string]any{"runAsUser": 1400},
		"env": []map[string]string{{"name": "ISTIO_META_DNS_CAPTURE", "value": "true"}}}
	gateway := map[string]any{"name": "istio-proxy", "args": []string{"proxy", "router"}}
	for _, tt := range []struct {
		why    string
		status int
		pod    map[string]any
		want   []string // of the rules; none: it is not captured
		code   int
	}{
		{"a sidecar", 200, pod(sidecarPod, nil, proxy), []string{"1400", "15053", "IPv6 is off"}, 0},
		{"a gateway", 200, pod(sidecarPod, nil, gateway), nil, 0},
		{"an ambient pod", 200, pod(nil, map[string]string{"istio.io/dataplane-mode": "ambient"}), nil, 11},
		{"a runtime class", 200, map[string]any{"metadata": map[string]any{"annotations": sidecarPod}, "spec": map[string]any{"runtimeClassName": "kata-qemu", "containers": []any{proxy}}}, nil, 101},
		{"an expired token", 401, nil, nil, 0},
		{"no such pod", 404, nil, nil, 0},
		{"not JSON", 200, map[string]any{}, nil, 0},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret" {
				t.Errorf("the token is %q", r.Header.Get("Authorization"))
			}
			if tt.status != 200 {
				w.WriteHeader(tt.status)
				return
			}
			if strings.HasSuffix(r.URL.Path, "/pods/cart") {
				_ = json.NewEncoder(w).Encode(tt.pod)
			} else {
				fmt.Fprint(w, `{"metadata":{"labels":{"a":"b"}}}`)
			}
		}))
		// it must be reached from the namespace that stands for the machine's
		p.do(func() (err error) {
			server.Listener.Close()
			server.Listener, err = net.Listen("tcp", "127.0.0.1:0")
			return err
		})
		server.StartTLS()
		kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
		text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]\n"+
			"users: [{name: u, user: {token: secret}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n", server.URL)
		if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		call := p.call(nil)
		call.entry = map[string]any{"kubeconfig": kubeconfig}
		o := p.plugin("ADD", call)
		server.Close()
		if tt.code != 0 {
			if e := o.failed(t); e.Code != tt.code {
				t.Errorf("%s: %+v", tt.why, e)
			}
		} else {
			o.succeeded(t)
		}
		if (tt.status != 200) != strings.Contains(o.errs, "is not known to the API server") {
			t.Errorf("%s: %s", tt.why, o)
		}
		rules := p.ruleset(t)
		if tt.want == nil && strings.Contains(rules, "table inet weir") {
			t.Errorf("%s: it is captured", tt.why)
		}
		for _, word := range tt.want {
			if !strings.Contains(rules, word) {
				t.Errorf("%s: the rules lack %s\n%s", tt.why, word, rules)
			}
		}
		p.plugin("DEL", call).succeeded(t)
		// no host is there any more
		o = p.plugin("ADD", call)
		if o.succeeded(t); !strings.Contains(o.errs, "is not known to the API server") || p.isCaptured(t) {
			t.Error(o)
		}
	}
}
