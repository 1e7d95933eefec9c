//go:build linux

package cluster

import (
	"testing"
	"time"
)

// TestBoot: a machine with containerd alone, which imports the tests' image and starts again with what was on
// its disk.
func TestBoot(t *testing.T) {
	c := newNode(t)
	for range 2 {
		c.startRuntime()
		images, err := c.crictl("images", "-q")
		if err != nil || images == "" {
			t.Errorf("%q, %v", images, err)
		}
		start := time.Now()
		c.off()
		c.boot()
		t.Logf("the machine is up again after %.1f s", time.Since(start).Seconds())
	}
}
