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

// TestAmbientMesh: pods of a labelled namespace, by the API server, with a stand-in for ztunnel.
func TestAmbientMesh(t *testing.T) {
	c := newCluster(t)
	c.tellAll()
	c.serveWorld()
	c.namespace("istio-system", "")
	c.namespace("mesh", "istio.io/dataplane-mode: ambient")
	c.deploy("ambient: {enabled: true}", "logging: {level: debug}")

	c.create(plainPod, "mesh", "one")
	start := time.Now()
	t.Logf("without a proxy: %s", c.awaitEvent("mesh", "one", "FailedCreatePodSandBox", "no proxy of the node is connected", "see that ztunnel runs on this node"))
	if err := c.apply(standInPod); err != nil {
		t.Fatal(err)
	}
	one, _ := c.awaitReady("mesh", "one", 2*time.Minute)
	t.Logf("with a proxy it is Ready %.1f s after it was created", time.Since(start).Seconds())
	c.inMesh(one)

	// The agent goes: a pod that is in the mesh works on, and a new one waits for it.
	c.removeAgent()
	c.create(plainPod, "mesh", "two")
	t.Logf("without the agent: %s", c.awaitEvent("mesh", "two", "FailedCreatePodSandBox", "needs the node agent to be captured", "namespace mesh is enrolled in the ambient mesh"))
	c.inMesh(one)
	c.deploy("ambient: {enabled: true}", "logging: {level: debug}")
	two, _ := c.awaitReady("mesh", "two", 2*time.Minute)
	c.inMesh(two)

	// The proxy goes and comes: what is captured waits, and is served again.
	c.remove("istio-system", "ztunnel")
	if err := c.apply(standInPod); err != nil {
		t.Fatal(err)
	}
	took := await(t, "both pods are served again", time.Minute, func() error {
		return errors.Join(c.notServed(one), c.notServed(two))
	})
	t.Logf("a proxy that starts again serves both pods %.1f s after it was applied", took.Seconds())

	// A label, on the pod alone, takes one out that lives on.
	if err := c.do("PATCH", "/api/v1/namespaces/mesh/pods/one", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"istio.io/dataplane-mode":"none"}}}`), nil); err != nil {
		t.Fatal(err)
	}
	ns, err := c.netnsOf(one)
	if err != nil {
		t.Fatal(err)
	}
	took = await(t, "a pod that is labelled leaves the mesh", 30*time.Second, func() error {
		if got := c.from(ns, 1000, nodeAddress+":9999"); got != "world:9999" {
			return errors.New(got)
		}
		return nil
	})
	await(t, "its annotation goes", time.Minute, func() error { // which the agent writes once the rules are gone
		one, err := c.pod("mesh", "one")
		if err == nil && one.Metadata.Annotations["ambient.istio.io/redirection"] != "" {
			err = fmt.Errorf("its annotations are %v", one.Metadata.Annotations)
		}
		return err
	})
	t.Logf("a pod that is labelled leaves the mesh within %.1f s", took.Seconds())
}

// notServed is how the node's proxy does not serve a pod; nil where it does.
func (c *cluster) notServed(p pod) error {
	ns, err := c.netnsOf(p)
	if err != nil {
		return err
	}
	if got := c.from(ns, 1000, nodeAddress+":9999"); got != "ztunnel:15001" {
		return fmt.Errorf("%s to the world lands at %q, want the proxy", p.Metadata.Name, got)
	}
	return nil
}

// inMesh checks that a pod was captured before its first container and is, that the kubelet's probes pass the proxy
// by, and that its annotation says so.
func (c *cluster) inMesh(p pod) {
	c.Helper()
	name := p.Metadata.Name
	if said, _ := p.said("first"); !strings.HasPrefix(said, "ztunnel:15001") {
		c.Errorf("the first container of %s was answered by %q", name, said)
	}
	if err := c.notServed(p); err != nil {
		c.Error(err)
	}
	await(c, name+" is Ready by the kubelet's probe, and annotated", 20*time.Second, func() error {
		now, err := c.pod(p.Metadata.Namespace, name)
		if err == nil && (!now.ready() || now.Metadata.Annotations["ambient.istio.io/redirection"] != "enabled") {
			err = fmt.Errorf("ready %t, annotations %v", now.ready(), now.Metadata.Annotations)
		}
		return err
	})
	out, err := c.try(c.path("play"), "role", "ask", p.Status.PodIP+":8080")
	if err != nil || !strings.HasPrefix(out, "app:8080 from 169.254.7.127") {
		c.Errorf("the node's own connection to %s was answered by %q, %v", name, out, err)
	}
}
