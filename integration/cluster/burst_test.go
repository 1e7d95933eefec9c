// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBurst: 110 pods, as many as a node has by default, are created at once.
func TestBurst(t *testing.T) {
	const pods = 110
	c := newCluster(t)
	c.tellAll()
	c.serveWorld()
	c.namespace("shop", "")
	agent := c.deploy()
	before := c.usageOf(agent)
	start := time.Now()
	for i := range pods {
		c.create(sidecarPod, "shop", fmt.Sprintf("pod-%d", i))
	}
	var all []pod
	await(t, "all are Ready", 20*time.Minute, func() error {
		var list struct{ Items []pod }
		if err := c.get("/api/v1/namespaces/shop/pods", &list); err != nil {
			return err
		}
		all = all[:0]
		for _, p := range list.Items {
			if p.ready() {
				all = append(all, p)
			}
		}
		if len(all) < pods {
			time.Sleep(500 * time.Millisecond) // to leave the processors to the pods
			return fmt.Errorf("%d are", len(all))
		}
		return nil
	})
	took := time.Since(start)
	after := c.usageOf(agent)
	var wrong []error
	for _, p := range all {
		if err := firstWords(p); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", p.Metadata.Name, err))
		}
		ns, err := c.netnsOf(p)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		await(t, p.Metadata.Name+" is answered", time.Minute, func() error { // it takes a while on a busy machine
			got := c.from(ns, 1000, nodeAddress+":9999")
			if got == "none" {
				return errors.New("it is not")
			}
			if got != "proxy:15001" {
				wrong = append(wrong, fmt.Errorf("%s lands at %q", p.Metadata.Name, got))
			}
			return nil
		})
		if out, err := c.try("nsenter", "--net="+ns, c.path("bin/weir"), "verify"); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w: %s", p.Metadata.Name, err, out))
		}
	}
	if len(wrong) > 0 {
		t.Error(errors.Join(wrong...))
	}
	t.Logf("%d pods were Ready %.1f s after the first was created, each captured before its first container and verified; the agent took %.1f s of CPU for it, RSS %d MB before and %d MB after",
		len(all), took.Seconds(), (after.cpu - before.cpu).Seconds(), before.rss>>20, after.rss>>20)
}

// usage is what a process has used, and holds.
type usage struct {
	cpu time.Duration
	rss int
}

// usageOf is what the first process of a pod has used.
func (c *cluster) usageOf(p pod) usage {
	c.Helper()
	ns, err := c.netnsOf(p)
	if err != nil {
		c.Fatal(err)
	}
	dir := strings.TrimSuffix(ns, "/ns/net")
	stat := c.run("cat", filepath.Join(dir, "stat"))
	_, rest, _ := strings.Cut(stat, ") ")
	fields := strings.Fields(rest) // the third field of proc_pid_stat(5) is the first
	ticks := 0
	for _, i := range []int{14, 15} { // utime, stime
		n, err := strconv.Atoi(fields[i-3])
		if err != nil {
			c.Fatal(err)
		}
		ticks += n
	}
	pages, err := strconv.Atoi(fields[24-3])
	if err != nil {
		c.Fatal(err)
	}
	return usage{time.Duration(ticks) * time.Second / 100, pages * os.Getpagesize()}
}
