// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// podText is a pod of one namespace. Its init container, the first of its programs to run, connects to the
// world at once: by its last words is known whether the pod was captured before.
const podText = `apiVersion: v1
kind: Pod
metadata:
  name: @NAME@
  namespace: @NAMESPACE@
  labels: {app: @NAME@@LABELS@}
  annotations: {@ANNOTATIONS@}
spec:
  terminationGracePeriodSeconds: @GRACE@
  dnsPolicy: Default
  automountServiceAccountToken: false
  initContainers:
  - {name: first, image: "localhost/weir/tools:1", imagePullPolicy: Never, command: [/play, role, land, "192.0.2.1:9999", "192.0.2.1:3306"]}
  containers:
  - {name: app, image: "localhost/weir/tools:1", imagePullPolicy: Never, command: [/play, role, serve, app, "8080", "8081"], readinessProbe: {httpGet: {port: 8081, path: /}, periodSeconds: 1}@LINGER@}
@PROXY@`

// proxyText is a sidecar's container.
const proxyText = `  - {name: istio-proxy, image: "localhost/weir/tools:1", imagePullPolicy: Never, command: [/play, role, serve, proxy, "15001", "15006"], securityContext: {runAsUser: 1337, runAsGroup: 1337}}
`

const injected = `sidecar.istio.io/status: '{"initContainers":["istio-validation"],"containers":["istio-proxy"]}', traffic.sidecar.istio.io/excludeInboundPorts: "8081", traffic.sidecar.istio.io/excludeOutboundPorts: "3306"`

// podKind is what a pod asks for.
type podKind struct {
	annotations, labels, proxy string
	lingers                    bool // it takes some seconds to end
}

var (
	sidecarPod = podKind{annotations: injected, proxy: proxyText}
	plainPod   = podKind{}
	ambientPod = podKind{labels: `, istio.io/dataplane-mode: ambient`}
	slowPod    = podKind{annotations: injected, proxy: proxyText, lingers: true}
)

func (k podKind) text(namespace, name string) string {
	grace, linger := "0", ""
	if k.lingers {
		grace, linger = "30", ", lifecycle: {preStop: {sleep: {seconds: 5}}}"
	}
	return strings.NewReplacer("@NAME@", name, "@NAMESPACE@", namespace, "@LABELS@", k.labels, "@ANNOTATIONS@", k.annotations, "@PROXY@", k.proxy,
		"@GRACE@", grace, "@LINGER@", linger).Replace(podText)
}

func (c *cluster) namespace(name, labels string) {
	c.Helper()
	text := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n", name, labels)
	if err := c.apply(text); err != nil {
		c.Fatal(err)
	}
	await(c, "the service account of "+name, time.Minute, func() error { return c.get("/api/v1/namespaces/"+name+"/serviceaccounts/default", nil) })
}

func (c *cluster) create(k podKind, namespace, name string) {
	c.Helper()
	var err error
	if c.standalone {
		err = c.put(namespace, name, k.text(namespace, name))
	} else {
		err = c.apply(k.text(namespace, name))
	}
	if err != nil {
		c.Fatal(err)
	}
}

// find is a pod as the API server or, where there is none, the kubelet knows it.
func (c *cluster) find(namespace, name string) (pod, error) {
	if c.standalone {
		return c.standalonePod(namespace, name)
	}
	return c.pod(namespace, name)
}

// why is what there is to say of a pod that is not as it should be.
func (c *cluster) why(namespace, name string, p pod) error {
	if !c.standalone {
		return errors.New(strings.Join(c.events(namespace, name), "\n"))
	}
	return fmt.Errorf("%+v", p.Status)
}

// awaitReady waits until a pod is, and returns how long that took.
func (c *cluster) awaitReady(namespace, name string, limit time.Duration) (p pod, took time.Duration) {
	c.Helper()
	took = await(c, namespace+"/"+name+" is Ready", limit, func() (err error) {
		if p, err = c.find(namespace, name); err == nil && !p.ready() {
			err = c.why(namespace, name, p)
		}
		return err
	})
	return p, took
}

// remove deletes a pod and waits until it has gone.
func (c *cluster) remove(namespace, name string) (took time.Duration) {
	c.Helper()
	c.terminate(namespace, name)
	return c.awaitGone(namespace, name)
}

// terminate deletes a pod, which then ends in its own time.
func (c *cluster) terminate(namespace, name string) {
	c.Helper()
	var err error
	if c.standalone {
		err = os.Remove(c.manifest(namespace, name))
	} else {
		err = c.delete("/api/v1/namespaces/" + namespace + "/pods/" + name)
	}
	if err != nil && !isStatus(err, 404) && !errors.Is(err, os.ErrNotExist) {
		c.Fatal(err)
	}
}

func (c *cluster) awaitGone(namespace, name string) (took time.Duration) {
	c.Helper()
	return await(c, namespace+"/"+name+" has gone", time.Minute, func() error {
		p, err := c.find(namespace, name)
		switch {
		case isStatus(err, 404):
			return nil
		case err == nil:
			return c.why(namespace, name, p)
		}
		return err
	})
}

// netnsOf is the path of a pod's network namespace on the node.
func (c *cluster) netnsOf(p pod) (string, error) {
	for _, s := range p.Status.ContainerStatuses {
		if id, found := strings.CutPrefix(s.ContainerID, "containerd://"); found {
			pid, err := c.try("crictl", "--config", c.path("crictl.yaml"), "inspect", "-o", "go-template", "--template", "{{.info.pid}}", id)
			if err != nil {
				return "", fmt.Errorf("%w: %s", err, pid)
			}
			return "/proc/" + pid + "/ns/net", nil
		}
	}
	return "", errors.New("no container of the pod runs")
}

// from is who answers at an address when a user connects from a pod.
func (c *cluster) from(netns string, uid int, to string) string {
	out, err := c.try("nsenter", "--net="+netns, "setpriv", "--reuid", fmt.Sprint(uid), "--regid", fmt.Sprint(uid), "--clear-groups", c.path("play"), "role", "ask", to)
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	word, _, _ := strings.Cut(out, " from ")
	return word
}

// notCaptured is how a pod with a sidecar is not as it should be, by real connections; nil where it is.
func (c *cluster) notCaptured(p pod) error {
	ns, err := c.netnsOf(p)
	if err != nil {
		return err
	}
	var wrong []error
	for _, tt := range []struct {
		who      string
		uid      int
		to, want string
	}{
		{"the application", 1000, nodeAddress + ":9999", "proxy:15001"},
		{"the application, excluded", 1000, nodeAddress + ":3306", "world:3306"},
		{"the proxy", 1337, nodeAddress + ":9999", "world:9999"},
	} {
		if got := c.from(ns, tt.uid, tt.to); got != tt.want {
			wrong = append(wrong, fmt.Errorf("%s to %s lands at %q, want %q", tt.who, tt.to, got, tt.want))
		}
	}
	for _, tt := range []struct{ port, want string }{{"8080", "proxy:15006"}, {"8081", "app:8081"}} {
		out, err := c.try(c.path("play"), "role", "ask", net.JoinHostPort(p.Status.PodIP, tt.port))
		word, _, _ := strings.Cut(out, " from ")
		if err != nil || word != tt.want {
			wrong = append(wrong, fmt.Errorf("the node to %s lands at %q, want %q", tt.port, out, tt.want))
		}
	}
	return errors.Join(wrong...)
}

// firstWords are how a pod's first program was not captured; nil where it was: nothing listened yet where the
// proxy does, so that nothing answers, and the world must not.
func firstWords(p pod) error {
	said, ended := p.said("first")
	if !ended {
		return errors.New("the first container has not ended")
	}
	captured, _, _ := strings.Cut(said, "\n")
	if captured != "none" {
		return fmt.Errorf("before the pod's proxy ran, %q answered its first container", captured)
	}
	if _, excluded, _ := strings.Cut(said, "\n"); !strings.HasPrefix(excluded, "world:3306") {
		return fmt.Errorf("the excluded port was answered by %q: the first container has shown nothing", excluded)
	}
	return nil
}
