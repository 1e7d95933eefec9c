// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestNRIAlone: where the runtime tells the agent of pods, one is captured before its first container although no plugin of
// weir's is in the network's list, and what cannot be captured does not start.
func TestNRIAlone(t *testing.T) {
	c := newStandalone(t)
	c.startStandalone()
	c.Cleanup(func() {
		if c.Failed() {
			c.tellLogs("containerd", "kubelet")
			c.Logf("the agent:\n%s", c.agentLog())
		}
	})
	c.serveWorld()
	agent := strings.Replace(agentPod(t, "--nri-socket=/run/nri/nri.sock"), "--cni-conf-dir=/host/cni/net.d", "--proc=false", 1)
	if err := c.put("weir-system", "weir-node", agent); err != nil {
		t.Fatal(err)
	}
	c.awaitReady("weir-system", "weir-node", 2*time.Minute)
	await(t, "the runtime tells of pods", time.Minute, func() error {
		if log := c.agentLog(); !strings.Contains(log, "the container runtime tells of pods") {
			return errors.New(log)
		}
		return nil
	})
	if list := c.run("sh", "-c", "cat /etc/cni/net.d/*"); strings.Contains(list, "weir") {
		t.Fatalf("the plugin is installed:\n%s", list)
	}
	c.create(sidecarPod, "shop", "told")
	p, took := c.awaitReady("shop", "told", 2*time.Minute)
	if err := errors.Join(firstWords(p), c.notCaptured(p)); err != nil {
		t.Error(err)
	}
	t.Logf("without a plugin in the list a pod is captured before its first container, and Ready after %.1f s", took.Seconds())

	wrong := sidecarPod
	wrong.annotations = strings.Replace(wrong.annotations, `"3306"`, `"70000"`, 1)
	c.create(wrong, "shop", "wrong")
	await(t, "a pod that cannot be captured is refused", time.Minute, func() error {
		out, err := c.try("grep", "-o", "NRI[^:]*: .*shop/wrong.* is not captured.*", c.path("log/kubelet.log"))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		first, _, _ := strings.Cut(out, "\n")
		t.Logf("a pod that cannot be captured does not start: %.300s", first)
		return nil
	})
}
