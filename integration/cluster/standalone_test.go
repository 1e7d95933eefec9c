// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newStandalone boots a node whose kubelet has no API server and starts the pods of a folder: a node as it is
// while the API server is away from the start.
func newStandalone(t testing.TB) *cluster {
	t.Helper()
	c := newNode(t)
	c.standalone = true
	c.write("k8s/kubelet.yaml", strings.ReplaceAll(kubeletConfig, "@CGROUP@", c.cgroup)+"staticPodPath: "+c.path("disk/manifests")+"\nfileCheckFrequency: 1s\n")
	if err := os.MkdirAll(c.path("disk/manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

// startStandalone starts the node's daemons.
func (c *cluster) startStandalone() {
	c.Helper()
	c.makeCgroups()
	c.startRuntime()
	c.start("kubelet", filepath.Join(c.programs, "kubelet"), "--config="+c.path("k8s/kubelet.yaml"), "--hostname-override=weirnode",
		"--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki", "--v=2")
	await(c, "the kubelet", time.Minute, func() error { _, err := c.list(); return err })
}

func (c *cluster) manifest(namespace, name string) string {
	return c.path("disk/manifests/" + namespace + "." + name + ".yaml")
}

// list are the node's pods, by the kubelet alone.
func (c *cluster) list() ([]pod, error) {
	var list struct{ Items []pod }
	err := c.do("GET", "https://"+nodeAddress+":10250/pods", "", nil, &list)
	for i := range list.Items {
		m := &list.Items[i].Metadata
		m.Name = strings.TrimSuffix(m.Name, "-weirnode")
	}
	return list.Items, err
}

func (c *cluster) put(namespace, name, text string) error {
	path := c.manifest(namespace, name)
	hidden := filepath.Join(c.dir, "next.yaml")
	return errors.Join(os.WriteFile(hidden, []byte(text), 0o644), os.Rename(hidden, path))
}

func (c *cluster) standalonePod(namespace, name string) (pod, error) {
	all, err := c.list()
	if err != nil {
		return pod{}, err
	}
	for _, p := range all {
		if p.Metadata.Namespace == namespace && p.Metadata.Name == name {
			return p, nil
		}
	}
	return pod{}, &status{404, fmt.Sprintf("there is no pod %s/%s", namespace, name)}
}
