// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Two releases of the agent, which `make cluster-test` builds of one source. That the later one writes other rules
// is by its settings.
const (
	olderRelease, newerRelease = "v1.0.0", "v1.1.0"
	newerSettings              = "settings: {meshes: {istio: {outbound: {excludeCIDRs: [" + newerPrefix + "]}}}}"
	newerPrefix                = "203.0.113.0/24"
)

func release(tag string) string { return "image: {tag: " + tag + "}" }

// starter starts pods with sidecars one after the other, and counts those that were not captured before their first
// container.
type starter struct {
	*cluster
	started, uncaptured atomic.Int64
	stop                chan struct{}
	all                 sync.WaitGroup
}

func (c *cluster) keepStarting(at int) *starter {
	s := &starter{cluster: c, stop: make(chan struct{})}
	for i := range at {
		s.all.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-s.stop:
					return
				default:
				}
				if err := s.startOne(fmt.Sprintf("loop-%d-%d", i, j)); err != nil {
					s.uncaptured.Add(1)
					s.Errorf("loop-%d-%d: %v", i, j, err)
				}
				s.started.Add(1)
			}
		})
	}
	return s
}

// startOne starts a pod, and removes it once its first container has ended.
func (s *starter) startOne(name string) error {
	if err := s.apply(sidecarPod.text("shop", name)); err != nil {
		return err
	}
	defer func() { _ = s.delete("/api/v1/namespaces/shop/pods/" + name) }()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		p, err := s.pod("shop", name)
		if err != nil {
			return err
		}
		if _, ended := p.said("first"); ended {
			return firstWords(p)
		}
		if time.Now().After(end) {
			return errors.New(strings.Join(s.events("shop", name), "\n"))
		}
	}
}

func (s *starter) end() {
	close(s.stop)
	s.all.Wait()
}

// TestUpgrade: the DaemonSet goes from one release to the next and back, while pods start all the time.
func TestUpgrade(t *testing.T) {
	c := newCluster(t)
	c.tellAll()
	c.serveWorld()
	c.namespace("shop", "")
	for _, r := range []string{olderRelease, newerRelease} {
		c.importImage(filepath.Join(c.weir, "weir-node-"+r+".oci.tar"))
	}
	c.deploy(release(olderRelease))
	older, _ := c.startsCaptured("first")

	loop := c.keepStarting(2)
	ended := sync.OnceFunc(loop.end)
	t.Cleanup(ended)
	steps := func() (n int64) { n = loop.started.Load(); return n }

	before := steps()
	c.deploy(release(newerRelease), newerSettings)
	await(t, "pods have started since", 3*time.Minute, func() error { return moreThan(steps(), before+3) })
	newer, _ := c.startsCaptured("second")
	was := c.rulesOf(newer)
	if !strings.Contains(was, newerPrefix) {
		t.Errorf("the newer release does not write what only it is set to:\n%s", was)
	}
	if now := c.rulesOf(older); !strings.Contains(now, newerPrefix) {
		t.Errorf("the newer release left the older one's rules:\n%s", now)
	}

	before = steps()
	c.deploy(release(olderRelease))
	await(t, "pods have started since", 3*time.Minute, func() error { return moreThan(steps(), before+3) })
	for _, p := range []pod{older, newer} {
		if now := c.rulesOf(p); now != c.rulesOf(newer) || now != was {
			t.Errorf("the older release undid the newer one's rules of %s:\n%s\nwere\n%s", p.Metadata.Name, now, was)
		}
		if row := c.listed(p); !strings.Contains(row, "newer") {
			t.Errorf("weir list says of %s: %s", p.Metadata.Name, row)
		}
	}
	// A newer one's rules that another program damages are healed, or told of: they do not stay as they are in silence.
	ns, err := c.netnsOf(newer)
	if err != nil {
		t.Fatal(err)
	}
	c.run("nsenter", "--net="+ns, "nft", "flush", "chain", "inet", "weir", "output")
	await(t, "damage to a newer release's rules is healed", 20*time.Second, func() error { return c.notCaptured(newer) })

	c.forge(older)
	took := await(t, "what a pod forged as a newer release's is not left", 20*time.Second, func() error { return c.notCaptured(older) })
	t.Logf("rules that a pod wrote itself, with a tag of release %s, are replaced after %.2f s", forgedRelease, took.Seconds())

	before = steps()
	c.deploy(release(newerRelease), newerSettings)
	await(t, "pods have started since", 3*time.Minute, func() error { return moreThan(steps(), before+3) })
	ended()
	for _, p := range []pod{older, newer} {
		if row := c.listed(p); !strings.Contains(row, "clean") || strings.Contains(row, "newer") {
			t.Errorf("weir list says of %s: %s", p.Metadata.Name, row)
		}
	}
	t.Logf("%s to %s, back, and forth again: %d pods started meanwhile, %d of them not captured before their first container", olderRelease, newerRelease, loop.started.Load(), loop.uncaptured.Load())
}

const forgedRelease = "v9.9.9"

// forge has a pod write rules that capture nothing, with a tag as good as that of a newer release, at once: it makes them
// in another namespace.
func (c *cluster) forge(p pod) {
	c.Helper()
	ns, err := c.netnsOf(p)
	if err != nil {
		c.Fatal(err)
	}
	const elsewhere = `ip link set lo up
weir apply --mode sidecar --proxy-uids 0-4294967294 >/dev/null 2>&1
hash=$(nft list set inet weir tag | sed -n 's/.*comment "weir 1 \([0-9a-f]*\) .*/\1/p')
nft "delete element inet weir tag { 1 }; add element inet weir tag { 1 comment \"weir 1 $hash ` + forgedRelease + `\" }"
nft list table inet weir`
	forged := c.run("unshare", "-n", "sh", "-ec", elsewhere)
	c.run("nsenter", "--net="+ns, "sh", "-ec", `printf '%s\n' "$0" | nft -f -`, "delete table inet weir\n"+forged)
}

func moreThan(n, want int64) error {
	if n <= want {
		return fmt.Errorf("%d, want more than %d", n, want)
	}
	return nil
}

// rulesOf are weir's rules of a pod, without counts.
func (c *cluster) rulesOf(p pod) string {
	c.Helper()
	ns, err := c.netnsOf(p)
	if err != nil {
		c.Fatal(err)
	}
	return c.run("nsenter", "--net="+ns, "nft", "--stateless", "list", "table", "inet", "weir")
}

// listed is what the agent says of a pod.
func (c *cluster) listed(p pod) (row string) {
	c.Helper()
	out := c.run(c.path("bin/weir"), "list")
	for line := range strings.Lines(out) {
		if strings.Contains(line, p.Metadata.Namespace+"/"+p.Metadata.Name) {
			row += line
		}
	}
	if row == "" {
		return out
	}
	return row
}
