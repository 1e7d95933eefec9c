// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

const standInPod = `apiVersion: v1
kind: Pod
metadata: {name: ztunnel, namespace: istio-system}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - name: ztunnel
    image: "localhost/weir/tools:1"
    imagePullPolicy: Never
    command: [/play, role, ztunnel, /run/ztunnel/ztunnel.sock]
    securityContext: {capabilities: {add: [NET_ADMIN, SYS_ADMIN]}}
    volumeMounts: [{name: z, mountPath: /run/ztunnel}]
  volumes: [{name: z, hostPath: {path: /run/ztunnel, type: DirectoryOrCreate}}]
`

// TestAmbientAlone: a pod of the ambient mesh does not start without the node's proxy; with a stand-in for ztunnel it is
// captured before its first container, the proxy listens there, and the kubelet's probes pass it by.
func TestAmbientAlone(t *testing.T) {
	c := newStandalone(t)
	if err := os.MkdirAll(c.path("disk/var/lib/weir"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.write("disk/var/lib/weir/enrolled.json", `{"version":1,"namespaces":[],"pods":["shop/amb-weirnode"],"except":[]}`)
	c.startStandalone()
	t.Cleanup(func() {
		if t.Failed() {
			c.tellLogs("containerd")
			logs, _ := c.try("sh", "-c", "tail -n 40 /var/log/pods/weir-system_weir-node*/weir-node/*.log /var/log/pods/istio-system*/ztunnel/*.log")
			t.Log(logs)
		}
	})
	c.serveWorld()
	if err := c.put("weir-system", "weir-node", agentPod(t, "--ambient", "--log-level=debug")); err != nil {
		t.Fatal(err)
	}
	c.awaitReady("weir-system", "weir-node", 2*time.Minute)
	c.create(ambientPod, "shop", "amb")
	refused := await(t, "the pod is refused without a proxy", time.Minute, func() error {
		log, err := os.ReadFile(c.path("log/kubelet.log"))
		if err == nil && !strings.Contains(string(log), "no proxy of the node is connected") {
			err = errors.New("nothing is told of it")
		}
		return err
	})
	t.Logf("without a proxy the pod is refused after %.1f s", refused.Seconds())
	if err := c.put("istio-system", "ztunnel", standInPod); err != nil {
		t.Fatal(err)
	}
	p, took := c.awaitReady("shop", "amb", 2*time.Minute)
	said, _ := p.said("first")
	if !strings.HasPrefix(said, "ztunnel:15001") {
		t.Errorf("the first container was answered by %q", said)
	}
	out, err := c.try(c.path("play"), "role", "ask", p.Status.PodIP+":8080")
	if err != nil || !strings.HasPrefix(out, "app:8080 from 169.254.7.127") {
		t.Errorf("the node was answered by %q, %v", out, err)
	}
	t.Logf("with a proxy it is Ready after %.1f s by the kubelet's probe, and captured before its first container", took.Seconds())
}
