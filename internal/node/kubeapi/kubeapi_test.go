// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
)

// asked is a request as a server got it.
type asked struct {
	method, path, kind string
	body               []byte
}

// server answers every request with one code, and keeps them.
type server struct {
	mu   sync.Mutex
	all  []asked
	code int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.all = append(s.all, asked{r.Method, r.URL.Path, r.Header.Get("Content-Type"), body})
	code := s.code
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if code == http.StatusOK {
		fmt.Fprint(w, `{"kind":"Pod","apiVersion":"v1"}`)
		return
	}
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":"Conflict","message":"no"}`, code)
}

func (s *server) got() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]asked(nil), s.all...)
}

// client is one of a server that answers with a code.
func client(t *testing.T, code int) (*Client, *server) {
	t.Helper()
	s := &server{code: code}
	at := httptest.NewServer(s)
	t.Cleanup(at.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"" + at.URL + "\"}}]\nusers: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\ncurrent-context: c\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(file, "node-1", "weir-node/test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestWrites: what is written is what the permissions of deploy/ allow, and names the pod that is meant.
func TestWrites(t *testing.T) {
	c, s := client(t, 200)
	ctx := t.Context()
	for _, err := range []error{
		c.Annotate(ctx, "mesh", "one", "u1", "ambient.istio.io/redirection", "enabled"),
		c.Annotate(ctx, "mesh", "one", "u1", "ambient.istio.io/redirection", ""),
		c.Label(ctx, "mesh", "one", "u1", "cni.istio.io/uninitialized", "true"),
		c.Delete(ctx, "mesh", "one", "u1"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	const pod, status, merge = "/api/v1/namespaces/mesh/pods/one", "/api/v1/namespaces/mesh/pods/one/status", "application/merge-patch+json"
	want := []asked{
		{"PATCH", status, merge, []byte(`{"metadata":{"annotations":{"ambient.istio.io/redirection":"enabled"},"uid":"u1"}}`)},
		{"PATCH", status, merge, []byte(`{"metadata":{"annotations":{"ambient.istio.io/redirection":null},"uid":"u1"}}`)},
		{"PATCH", pod, merge, []byte(`{"metadata":{"labels":{"cni.istio.io/uninitialized":"true"},"uid":"u1"}}`)},
	}
	got := s.got()
	if !reflect.DeepEqual(got[:3], want) {
		t.Errorf("got  %s\nwant %s", got[:3], want)
	}
	if last := got[3]; last.method != "DELETE" || last.path != pod || !strings.Contains(string(last.body), "u1") {
		t.Errorf("it is deleted by %s %s %q", last.method, last.path, last.body)
	}
	refused, _ := client(t, http.StatusConflict)
	if err := refused.Label(ctx, "mesh", "one", "u1", "a", "b"); err == nil {
		t.Error("that another pod has the name is not told")
	}
}

// TestEvents: findings are events of the pod, with the writer; one of a reason each ten seconds, and none that does
// not fit.
func TestEvents(t *testing.T) {
	c, s := client(t, 200)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { c.writeEvents(ctx, c.writeEvent); close(ended) }()
	pod := inventory.Pod{Namespace: "shop", Name: "cart", UID: "u1"}
	drift := keep.Finding{Result: keep.Result{Healed: true, Outcome: "replaced", Differences: []string{"rule 1\nis \x1b[31mmissing", "rule 2"}}, Writers: []string{"nft, PID 7"}}
	c.Found(pod, node.Status{}, drift)
	c.Found(pod, node.Status{}, drift) // within ten seconds
	first := drift
	first.First, first.Writers = true, nil
	c.Found(pod, node.Status{}, first)
	c.Found(inventory.Pod{Netns: "/proc/1/ns/net"}, node.Status{}, drift) // not a pod
	c.Found(pod, node.Status{}, keep.Finding{Result: keep.Result{Err: errors.New(strings.Repeat("é", 2000))}})
	c.Escaped(pod, node.Status{}, escapes.Count{Out: 3})
	c.Found(pod, node.Status{}, keep.Finding{Result: keep.Result{Conflicts: []string{"chain ip other out"}}})
	c.Found(pod, node.Status{}, keep.Finding{}) // nothing is wrong
	want := []string{
		"WeirHealed: its rules were changed by nft, PID 7, and are restored: rule 1 is \\x1b[31mmissing; and 1 more",
		"WeirCaptured: its traffic was not captured as it should be, and is now (replaced): rule 1 is \\x1b[31mmissing; and 1 more",
		"WeirNotCaptured: its traffic is not captured as it should be: é",
		"WeirEscaped: connections were opened past its proxy: 3 packets out, 0 in",
		"WeirBlocked: in the way of its captured traffic, written by not known: chain ip other out",
	}
	for end := time.Now().Add(time.Minute); len(s.got()) < len(want) && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	cancel()
	<-ended
	got := s.got()
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i, r := range got {
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(r.body, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := o.(*corev1.Event)
		text := e.Reason + ": " + e.Message
		if !strings.HasPrefix(text, want[i]) || len(e.Message) > 1024 || e.Type != "Warning" || e.Source.Host != "node-1" {
			t.Errorf("event %d is %q of %d bytes, want %q", i, text, len(e.Message), want[i])
		}
		if ref := e.InvolvedObject; r.path != "/api/v1/namespaces/shop/events" || ref.Name != "cart" || ref.UID != "u1" || ref.Kind != "Pod" {
			t.Errorf("event %d is about %+v, at %s", i, ref, r.path)
		}
	}
}

// TestEventPause: of the events of one pod and reason that come within ten seconds, the first and the last are written.
func TestEventPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Client{events: make(chan event, maxEvents), log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var got []string
		go c.writeEvents(ctx, func(_ context.Context, e event) error {
			got = append(got, fmt.Sprintf("%s of %s after %s", e.message, e.name, time.Since(start).Round(time.Second)))
			return nil
		})
		for i := range 5 {
			c.Event("shop", "cart", "u1", true, reasonHealed, fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		c.Event("shop", "other", "u2", true, reasonHealed, "0")
		time.Sleep(time.Minute)
		c.Event("shop", "cart", "u1", true, reasonHealed, "5")
		synctest.Wait()
		cancel()
		want := []string{"0 of cart after 0s", "0 of other after 5s", "4 of cart after 10s", "5 of cart after 1m5s"}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// TestStrip: of a pod what decides about its capture is kept, and nothing else.
func TestStrip(t *testing.T) {
	user, class := int64(1337), "kata"
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "cart", Namespace: "shop", UID: "u1", Labels: map[string]string{"app": "cart"},
			Annotations:   map[string]string{"a": "1", "kubectl.kubernetes.io/last-applied-configuration": "megabytes"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}},
		Spec: corev1.PodSpec{HostNetwork: true, RuntimeClassName: &class, ServiceAccountName: "sa", NodeName: "node-1", Volumes: []corev1.Volume{{Name: "v"}},
			InitContainers: []corev1.Container{{Name: "istio-init", Image: "i"}},
			Containers: []corev1.Container{{Name: "istio-proxy", Image: "i", Args: []string{"proxy", "sidecar", "--more"}, SecurityContext: &corev1.SecurityContext{RunAsUser: &user},
				Env: []corev1.EnvVar{{Name: "SECRET", Value: "s"}, {Name: "DISABLE_ENVOY", Value: "true"}}}}},
		Status: corev1.PodStatus{Phase: "Running", Message: "m", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "istio-validation", Image: "i", LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 126, Message: "m"}}}}},
	}
	got, err := stripPod(p)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"megabytes", "kubectl", "SECRET", "--more", `"image":"i"`, "volumes", `"message"`} {
		if strings.Contains(string(text), gone) {
			t.Errorf("%s is kept: %s", gone, text)
		}
	}
	c, _ := client(t, 200)
	if err := c.pods.GetIndexer().Add(got); err != nil {
		t.Fatal(err)
	}
	stripped, err := stripNamespace(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"mesh": "on"}, ManagedFields: []metav1.ManagedFieldsEntry{{}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.namespaces.GetStore().Add(stripped); err != nil {
		t.Fatal(err)
	}
	want := mesh.Pod{Namespace: "shop", Name: "cart", UID: "u1", Annotations: map[string]string{"a": "1"}, Spec: &mesh.Spec{
		Labels: map[string]string{"app": "cart"}, HostNetwork: true, RuntimeClass: "kata", NamespaceLabels: map[string]string{"mesh": "on"},
		Containers: []mesh.Container{
			{Name: "istio-init", Init: true, Env: map[string]string{}},
			{Name: "istio-proxy", Args: []string{"proxy", "sidecar"}, Env: map[string]string{"DISABLE_ENVOY": "true"}, RunAsUser: &user},
		}}}
	if got := c.describe(got.(*corev1.Pod)); !reflect.DeepEqual(got, want) {
		t.Errorf("it is described as\n%+v, want\n%+v", got, want)
	}
	if c.ServiceAccount("shop", "cart") != "sa" || c.ServiceAccount("shop", "none") != "" {
		t.Error("its service account is not known")
	}
	if got := c.Namespaces("mesh", "on"); !reflect.DeepEqual(got, []string{"shop"}) {
		t.Errorf("labelled namespaces are %q", got)
	}
	if _, known := c.Pod("shop", "cart"); known {
		t.Error("a pod is known whole before namespaces were listed: its labels are not")
	}
	deleted := cache.DeletedFinalStateUnknown{Key: "shop/cart"}
	if same, err := stripPod(deleted); err != nil || same != any(deleted) {
		t.Errorf("a deletion becomes %v, %v", same, err)
	}
}
