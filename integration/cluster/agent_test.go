// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

const agentImage = "localhost/weir/weir-node:dev"

// agentPod is the pod of the manifest's DaemonSet, as a kubelet without an API server can start it.
func agentPod(t testing.TB, flags ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "weir-node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, daemonSet, found := strings.Cut(string(text), "kind: DaemonSet\n")
	if !found {
		t.Fatal("the manifest has no DaemonSet")
	}
	var set struct {
		Spec struct {
			Template struct {
				Metadata struct {
					Labels map[string]string `yaml:"labels"`
				} `yaml:"metadata"`
				Spec map[string]any `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(daemonSet), &set); err != nil {
		t.Fatal(err)
	}
	spec := set.Spec.Template.Spec
	for _, key := range []string{"serviceAccountName", "priorityClassName", "nodeSelector"} { // which an API server knows
		delete(spec, key)
	}
	named := func(name string) func(any) bool {
		return func(v any) bool { return v.(map[string]any)["name"] == name }
	}
	spec["volumes"] = slices.DeleteFunc(spec["volumes"].([]any), named("settings"))
	c := spec["containers"].([]any)[0].(map[string]any)
	c["volumeMounts"] = slices.DeleteFunc(c["volumeMounts"].([]any), named("settings"))
	c["args"] = slices.DeleteFunc(c["args"].([]any), func(v any) bool {
		return strings.HasPrefix(v.(string), "--settings")
	})
	if len(flags) > 0 {
		for _, f := range flags {
			c["args"] = append(c["args"].([]any), f)
		}
		for _, name := range []string{"ztunnel", "nri"} {
			spec["volumes"] = append(spec["volumes"].([]any), map[string]any{"name": name, "hostPath": map[string]any{"path": "/run/" + name, "type": "DirectoryOrCreate"}})
			c["volumeMounts"] = append(c["volumeMounts"].([]any), map[string]any{"name": name, "mountPath": "/run/" + name})
		}
	}
	c["image"], c["imagePullPolicy"] = agentImage, "Never"
	out, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "weir-node", "namespace": "weir-system", "labels": set.Spec.Template.Metadata.Labels}, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestAgentAlone: the agent from its image, under a kubelet that has no API server.
func TestAgentAlone(t *testing.T) {
	c := newStandalone(t)
	c.startStandalone()
	t.Cleanup(func() {
		if t.Failed() {
			c.tellLogs("containerd", "kubelet")
			logs, _ := c.try("sh", "-c", "tail -n 30 /var/log/pods/weir-system_weir-node*/weir-node/*.log")
			t.Log(logs)
		}
	})
	c.serveWorld()

	// A pod that starts before weir is on the node.
	c.create(sidecarPod, "shop", "early")
	early, _ := c.awaitReady("shop", "early", 2*time.Minute)
	if firstWords(early) == nil {
		t.Error("a pod was captured before weir was on the node")
	}
	ns, err := c.netnsOf(early)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.put("weir-system", "weir-node", agentPod(t)); err != nil {
		t.Fatal(err)
	}
	var captured time.Time
	await(t, "the early pod is captured", time.Minute, func() error {
		if got := c.from(ns, 1000, nodeAddress+":9999"); got != "proxy:15001" {
			return errors.New(got)
		}
		captured = time.Now()
		return nil
	})
	agent, err := c.find("weir-system", "weir-node")
	if err != nil || len(agent.Status.ContainerStatuses) == 0 {
		t.Fatalf("%+v, %v", agent, err)
	}
	started := agent.Status.ContainerStatuses[0].State.Running
	if started == nil {
		t.Fatalf("%+v", agent.Status)
	}
	// Kubernetes tells seconds.
	t.Logf("a pod that started before the agent is captured at most %.1f s after the agent's start (by a connection; a probe takes up to 0.3 s)", captured.Sub(started.StartedAt).Seconds())
	if err := c.notCaptured(early); err != nil {
		t.Error(err)
	}

	// The agent is Ready where the plugin is installed.
	c.awaitReady("weir-system", "weir-node", 2*time.Minute)
	c.create(sidecarPod, "shop", "late")
	late, took := c.awaitReady("shop", "late", 2*time.Minute)
	if err := errors.Join(firstWords(late), c.notCaptured(late)); err != nil {
		t.Error(err)
	}
	t.Logf("a pod is captured before its first container, and Ready after %.1f s", took.Seconds())

	// Another program flushes the rules of a running pod.
	if ns, err = c.netnsOf(late); err != nil {
		t.Fatal(err)
	}
	c.run("nsenter", "--net="+ns, "nft", "delete", "table", "inet", "weir")
	healed := await(t, "the rules are healed", 10*time.Second, func() error {
		_, err := c.try("nsenter", "--net="+ns, "nft", "list", "table", "inet", "weir")
		return err
	})
	t.Logf("rules that were deleted are there again after %d ms", healed.Milliseconds())

	// The agent goes: sidecars are captured by the plugin alone.
	c.remove("weir-system", "weir-node")
	c.create(sidecarPod, "shop", "without")
	without, _ := c.awaitReady("shop", "without", 2*time.Minute)
	if err := errors.Join(firstWords(without), c.notCaptured(without)); err != nil {
		t.Errorf("without the agent: %v", err)
	}
	if err := c.put("weir-system", "weir-node", agentPod(t)); err != nil {
		t.Fatal(err)
	}

	// A reboot: every pod starts again, and is captured before its containers run.
	c.reboot()
	c.serveWorld()
	for _, name := range []string{"early", "late", "without"} {
		var p pod
		await(t, name+" runs again, and its proxy", 3*time.Minute, func() (err error) {
			p, err = c.find("shop", name)
			if err == nil && !p.ready() {
				err = fmt.Errorf("%+v", p.Status)
			}
			if err == nil {
				err = c.notCaptured(p)
			}
			return err
		})
		if err := firstWords(p); err != nil {
			t.Errorf("%s after a reboot: %v", name, err)
		}
	}
	t.Log("after a reboot all three are captured before their first containers")

	// Uninstall while pods go. The agent, which would install again, goes first.
	c.remove("weir-system", "weir-node")
	await(t, "the agent has ended", time.Minute, func() error {
		out, err := c.crictl("pods", "--namespace", "weir-system", "--state", "ready", "-q")
		if err == nil && out != "" {
			err = errors.New(out)
		}
		return err
	})
	c.run(c.path("bin/weir"), "cni", "uninstall", "--bin-dir", "/opt/cni/bin", "--conf-dir", "/etc/cni/net.d", "--wait", "1s")
	for _, name := range []string{"early", "late", "without"} {
		c.remove("shop", name)
	}
	gone := await(t, "every sandbox has gone", 2*time.Minute, func() error {
		out, err := c.crictl("pods", "--namespace", "shop", "--state", "ready", "-q")
		if err == nil && out != "" {
			err = errors.New(out)
		}
		return err
	})
	t.Logf("after an uninstall three pods end within %.1f s, none hangs", gone.Seconds())
}
