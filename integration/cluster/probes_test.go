// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"testing"
	"time"
)

// TestProbesAlone: the probes of a real kubelet reach a pod of the ambient mesh by the node's table and its
// probe set, and by nothing less: nothing listens where the pod's inbound traffic is captured to.
func TestProbesAlone(t *testing.T) {
	c := newStandalone(t)
	c.startStandalone()
	c.create(plainPod, "shop", "plain")
	p, _ := c.awaitReady("shop", "plain", 2*time.Minute)
	ns, err := c.netnsOf(p)
	if err != nil {
		t.Fatal(err)
	}
	weir := c.path("bin/weir")
	c.run(weir, "ambient", "pod", "apply", "--netns", ns)
	unready := await(t, "the pod is not Ready once it is captured", time.Minute, func() error {
		if p, err = c.find("shop", "plain"); err == nil && p.ready() {
			err = errors.New("it is Ready")
		}
		return err
	})
	c.run(weir, "ambient", "host", "apply", "--v6")
	args := []string{weir, "ambient", "host", "pods", "add", "--pod", p.Metadata.UID}
	for _, ip := range p.Status.PodIPs {
		args = append(args, ip.IP)
	}
	if len(p.Status.PodIPs) == 0 {
		t.Fatal("the pod has no address")
	}
	c.run(args...)
	_, ready := c.awaitReady("shop", "plain", time.Minute)
	t.Logf("captured, the pod was unready after %.1f s; in the probe set, it was Ready after %.1f s", unready.Seconds(), ready.Seconds())
}
