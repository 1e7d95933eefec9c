// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"testing"
	"time"
)

// TestPlugin: the plugin alone, without an agent, captures a pod before its containers run.
func TestPlugin(t *testing.T) {
	c := newCluster(t)
	c.namespace("shop", "")
	testPlugin(t, c)
}

// TestPluginAlone is the same without an API server.
func TestPluginAlone(t *testing.T) {
	c := newStandalone(t)
	c.startStandalone()
	testPlugin(t, c)
}

func testPlugin(t *testing.T, c *cluster) {
	t.Cleanup(func() {
		if t.Failed() {
			c.tellLogs("containerd", "kubelet", "apiserver", "controllers", "scheduler")
		}
	})
	c.serveWorld()
	c.run(c.path("bin/weir"), "cni", "install", "--bin-dir", "/opt/cni/bin", "--conf-dir", "/etc/cni/net.d")
	c.create(sidecarPod, "shop", "cart")
	c.create(plainPod, "shop", "plain")
	p, took := c.awaitReady("shop", "cart", time.Minute)
	if err := firstWords(p); err != nil {
		t.Error(err)
	}
	if err := c.notCaptured(p); err != nil {
		t.Error(err)
	}
	plain, _ := c.awaitReady("shop", "plain", time.Minute)
	if said, _ := plain.said("first"); len(said) < 5 || said[:5] != "world" {
		t.Errorf("a pod that asks for no capture was answered by %q", said)
	}
	t.Logf("a captured pod is Ready %.1f s after it was created, captured before its first container", took.Seconds())
	t.Logf("it goes within %.1f s", c.remove("shop", "cart").Seconds())
}
