// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// tellAll prints what happened on the cluster of a test that failed.
func (c *cluster) tellAll() {
	c.Helper()
	c.Cleanup(func() {
		if !c.Failed() {
			return
		}
		c.tellLogs("containerd", "kubelet", "apiserver", "controllers")
		c.Logf("the agent:\n%s", c.agentLog())
	})
}

// agentLog is the end of what the agents' containers wrote.
func (c *cluster) agentLog() string {
	out, _ := c.try("sh", "-c", "tail -n 60 /var/log/pods/weir-system_weir-node*/weir-node/*.log")
	return out
}

// startedAt is when a pod's first container started, to more than the second that Kubernetes tells.
func (c *cluster) startedAt(p pod) time.Time {
	c.Helper()
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	out, err := c.crictl("inspect", "-o", "go-template", "--template", "{{.status.startedAt}}", id)
	if err != nil {
		c.Fatalf("%v: %s", err, out)
	}
	at, err := time.Parse(time.RFC3339Nano, out)
	if err != nil {
		c.Fatal(err)
	}
	return at
}

// awaitCaptured waits until a running pod is captured, by a connection, and returns when it was.
func (c *cluster) awaitCaptured(p pod, limit time.Duration) time.Time {
	c.Helper()
	ns, err := c.netnsOf(p)
	if err != nil {
		c.Fatal(err)
	}
	await(c, p.Metadata.Name+" is captured", limit, func() error {
		if got := c.from(ns, 1000, nodeAddress+":9999"); got != "proxy:15001" {
			return errors.New(got)
		}
		return nil
	})
	return time.Now()
}

// agentSaid is when the agent last logged a message about a pod.
func (c *cluster) agentSaid(message, podName string) (at time.Time) {
	c.Helper()
	for line := range strings.Lines(c.run("sh", "-c", "cat /var/log/pods/weir-system_weir-node*/weir-node/*.log")) {
		var entry struct {
			Time     time.Time
			Msg, Pod string
		}
		_, object, _ := strings.Cut(line, "{") // the runtime's own words come before
		if json.Unmarshal([]byte("{"+object), &entry) == nil && entry.Msg == message && entry.Pod == podName && entry.Time.After(at) {
			at = entry.Time
		}
	}
	if at.IsZero() {
		c.Errorf("the agent did not log %q about %s", message, podName)
	}
	return at
}

// awaitEvent waits for an event of a pod that has all of some words.
func (c *cluster) awaitEvent(namespace, name string, words ...string) string {
	c.Helper()
	var line string
	await(c, fmt.Sprintf("an event of %s with %q", name, words), 3*time.Minute, func() error {
		all := c.events(namespace, name)
	lines:
		for _, e := range all {
			for _, w := range words {
				if !strings.Contains(e, w) {
					continue lines
				}
			}
			line = e
			return nil
		}
		return errors.New(strings.Join(all, "\n"))
	})
	return line
}

// startsCaptured starts a pod with a sidecar, and checks that it was captured before its first container and is.
func (c *cluster) startsCaptured(name string) (p pod, took time.Duration) {
	c.Helper()
	c.create(sidecarPod, "shop", name)
	p, took = c.awaitReady("shop", name, 4*time.Minute)
	if err := firstWords(p); err != nil {
		c.Errorf("%s: %v", name, err)
	}
	// The pod is Ready by its application: its proxy may be about to listen.
	await(c, name+" is captured", 10*time.Second, func() error { return c.notCaptured(p) })
	for _, e := range c.events("shop", name) {
		if strings.Contains(e, ": Weir") {
			c.Errorf("nobody touched %s, and an event says: %s", name, e)
		}
	}
	return p, took
}

// TestDaemonSet: the agent from its image as a DaemonSet, by the chart, through what a node's life has.
func TestDaemonSet(t *testing.T) {
	c := newCluster(t)
	c.tellAll()
	c.serveWorld()
	c.namespace("shop", "")

	// A pod that is older than the agent.
	c.create(sidecarPod, "shop", "early")
	early, _ := c.awaitReady("shop", "early", 2*time.Minute)
	if firstWords(early) == nil {
		t.Error("a pod was captured before weir was on the node")
	}
	if err := errors.Join(c.apply(agentSpace), c.apply(c.chart())); err != nil {
		t.Fatal(err)
	}
	captured := c.awaitCaptured(early, 2*time.Minute)
	agent := c.awaitAgent()
	started := c.startedAt(agent)
	healed := c.agentSaid("was not captured as it should be", "shop/early")
	t.Logf("a pod older than the agent is captured %.2f s after the agent's start by the agent's log, at most %.2f s by a connection", healed.Sub(started).Seconds(), captured.Sub(started).Seconds())
	if captured.Sub(started) > 2*time.Second {
		t.Errorf("that is more than 2 s")
	}
	if err := c.notCaptured(early); err != nil {
		t.Error(err)
	}
	t.Logf("the pod's event: %s", c.awaitEvent("shop", "early", "WeirCaptured"))

	late, took := c.startsCaptured("late")
	t.Logf("a pod is captured before its first container, and Ready after %.1f s", took.Seconds())

	ns, err := c.netnsOf(late)
	if err != nil {
		t.Fatal(err)
	}
	c.run("nsenter", "--net="+ns, "nft", "delete", "table", "inet", "weir")
	took = await(t, "the rules are healed", 10*time.Second, func() error {
		_, err := c.try("nsenter", "--net="+ns, "nft", "list", "table", "inet", "weir")
		return err
	})
	t.Logf("rules that were deleted are there again after %d ms; the pod's event: %s", took.Milliseconds(), c.awaitEvent("shop", "late", "WeirHealed", "nft, PID"))

	testTokenRevoked(c)
	testAPIAway(c)

	c.removeAgent()
	_, took = c.startsCaptured("alone")
	t.Logf("without the agent a pod is captured before its first container, and Ready after %.1f s", took.Seconds())
	c.deploy()

	testReboot(c, "early", "late", "alone")
	testUninstall(c)
}

// testTokenRevoked: the agent's service account goes, and the API server, started again, knows its token no more.
func testTokenRevoked(c *cluster) {
	if err := c.delete("/api/v1/namespaces/" + agentNamespace + "/serviceaccounts/" + agentName); err != nil {
		c.Fatal(err)
	}
	c.restartAPIServer()
	await(c, "the agent is refused", 2*time.Minute, func() error {
		if log := c.agentLog(); !strings.Contains(log, "Unauthorized") {
			return errors.New(log)
		}
		return nil
	})
	_, took := c.startsCaptured("revoked")
	c.Logf("with a revoked token a pod is captured before its first container, and Ready after %.1f s", took.Seconds())
	c.remove("shop", "revoked")
	c.deploy() // which makes the service account again; the running agent has the token of the former one
	c.removeAgent()
	c.deploy()
}

func (c *cluster) restartAPIServer() {
	c.Helper()
	c.stop("apiserver")
	c.startAPIServer()
	await(c, "the API server", 2*time.Minute, func() error { return c.get("/readyz", new(string)) })
	await(c, "the node is Ready", time.Minute, c.nodeReady)
}

// testAPIAway: while the API server is away, the agent starts again, a pod's network is made anew, and rules are healed.
func testAPIAway(c *cluster) {
	agents, err := c.agents()
	if err != nil || len(agents) != 1 {
		c.Fatalf("%d agents, %v", len(agents), err)
	}
	sandbox := c.run("crictl", "--config", c.path("crictl.yaml"), "pods", "-q", "--name", "^late$", "--state", "ready")
	c.stop("apiserver")
	_, id, _ := strings.Cut(agents[0].Status.ContainerStatuses[0].ContainerID, "://")
	c.run("crictl", "--config", c.path("crictl.yaml"), "stop", "--timeout", "5", id)
	await(c, "the agent runs again", time.Minute, func() error {
		out, err := c.crictl("ps", "-q", "--name", "^weir-node$", "--state", "running")
		if err == nil && (out == "" || strings.Contains(out, id)) {
			err = errors.New("it does not")
		}
		return err
	})
	c.run("crictl", "--config", c.path("crictl.yaml"), "stopp", sandbox)
	var first string
	took := await(c, "the pod's containers run in a new sandbox", 2*time.Minute, func() error {
		out, err := c.crictl("ps", "-o", "json", "--state", "running", "--name", "^(app|istio-proxy)$")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var list struct {
			Containers []struct {
				PodSandboxID string
				Labels       map[string]string
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		running := 0
		for _, r := range list.Containers {
			if r.Labels["io.kubernetes.pod.name"] == "late" && r.PodSandboxID != sandbox {
				running++
				first = r.PodSandboxID
			}
		}
		if running < 2 {
			return fmt.Errorf("%d run", running)
		}
		return nil
	})
	said, err := c.crictl("logs", c.run("crictl", "--config", c.path("crictl.yaml"), "ps", "-a", "-q", "--pod", first, "--name", "^first$"))
	if err != nil || !strings.HasPrefix(said, "none\nworld:3306") {
		c.Errorf("while the API server is away, the first container was answered by %q, %v", said, err)
	}
	ns := c.run("crictl", "--config", c.path("crictl.yaml"), "inspectp", "-o", "go-template", "--template", "{{range .info.runtimeSpec.linux.namespaces}}{{if eq .type \"network\"}}{{.path}}{{end}}{{end}}", first)
	c.run("nsenter", "--net="+ns, "nft", "flush", "ruleset")
	healed := await(c, "the rules are healed", 10*time.Second, func() error {
		_, err := c.try("nsenter", "--net="+ns, "nft", "list", "table", "inet", "weir")
		return err
	})
	c.Logf("without the API server a pod starts again within %.1f s, captured before its first container; rules are healed in %d ms", took.Seconds(), healed.Milliseconds())
	c.startAPIServer()
	await(c, "the API server", 2*time.Minute, func() error { return c.get("/readyz", new(string)) })
	await(c, "the node is Ready", time.Minute, c.nodeReady)
	c.awaitAgent()
}

// testReboot: every process ends, and starts again with what is on the disk.
func testReboot(c *cluster, names ...string) {
	before := map[string]string{}
	for _, name := range names {
		p, err := c.pod("shop", name)
		if err != nil {
			c.Fatal(err)
		}
		before[name] = p.Status.ContainerStatuses[0].ContainerID
	}
	c.reboot()
	c.serveWorld()
	for _, name := range names {
		var p pod
		await(c, name+" runs again, captured", 3*time.Minute, func() (err error) {
			if p, err = c.pod("shop", name); err != nil {
				return err
			}
			if !p.ready() || p.Status.ContainerStatuses[0].ContainerID == before[name] {
				return fmt.Errorf("%+v", p.Status)
			}
			return c.notCaptured(p)
		})
		if err := firstWords(p); err != nil {
			c.Errorf("%s after a reboot: %v", name, err)
		}
	}
	c.awaitAgent()
	c.Logf("after a reboot %d of %d pods were captured before their first container", len(names), len(names))
}

// testUninstall: pods are ending while the plugin is taken away, and none hangs.
func testUninstall(c *cluster) {
	const slow = 5
	var names []string
	for i := range slow {
		name := fmt.Sprintf("slow-%d", i)
		c.create(slowPod, "shop", name)
		names = append(names, name)
	}
	for _, name := range names {
		c.awaitReady("shop", name, 4*time.Minute)
	}
	for _, name := range names {
		c.terminate("shop", name)
	}
	c.deploy("uninstall: true")
	list := c.run("sh", "-c", "cat /etc/cni/net.d/*.conflist; ls /opt/cni/bin")
	if strings.Contains(list, "weir") {
		c.Errorf("after an uninstall there is still\n%s", list)
	}
	c.removeAgent()
	start := time.Now()
	for _, name := range append(names, "late", "early", "alone") {
		c.terminate("shop", name)
	}
	for _, name := range append(names, "late", "early", "alone") {
		c.awaitGone("shop", name)
	}
	c.Logf("%d pods that were ending during an uninstall and 3 that were deleted after it have gone %.1f s after it", slow, time.Since(start).Seconds())
	c.create(plainPod, "shop", "after")
	after, _ := c.awaitReady("shop", "after", time.Minute)
	if said, _ := after.said("first"); !strings.HasPrefix(said, "world") {
		c.Errorf("after an uninstall a pod was answered by %q", said)
	}
}
