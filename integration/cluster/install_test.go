// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/image"
)

// TestInstall runs the commands of deploy/README.md as they are written there, on a node that has never had weir.
func TestInstall(t *testing.T) {
	c := newNode(t)
	c.tellAll()
	if err := os.Remove(c.path("weir-node.tar")); err != nil {
		t.Fatal(err)
	}
	c.startDaemons()
	c.checkout()

	start := time.Now()
	listed := lineWith(c.runBlock("Install"), "default/web")
	t.Logf("from the archive to a captured pod in %.1f s", time.Since(start).Seconds())
	for _, want := range []string{" weir ", " clean"} {
		if !strings.Contains(listed, want) {
			t.Errorf("weir list says of the pod %q, which lacks %q", listed, want)
		}
	}
	if left := c.run("sh", "-c", leftOnNode); !strings.Contains(left, "weir-cni") {
		t.Errorf("an installed node has %q", left)
	}

	c.runBlock("Uninstall")
	if left := c.run("sh", "-c", leftOnNode); strings.Contains(left, "weir") {
		t.Errorf("after weir was taken away the node has still %q", left)
	}
	c.create(plainPod, "default", "after")
	c.awaitReady("default", "after", time.Minute)
}

const leftOnNode = "cat /etc/cni/net.d/*; ls /opt/cni/bin"

// runBlock runs the lines of the block of commands below a heading of deploy/README.md, and returns what the last one printed.
func (c *cluster) runBlock(heading string) (printed string) {
	c.Helper()
	_, text, _ := strings.Cut(deployFile(c, "README.md"), "## "+heading+"\n\n```sh\n")
	block, _, found := strings.Cut(text, "```")
	if !found {
		c.Fatalf("deploy/README.md has no block of commands below %s", heading)
	}
	for line := range strings.Lines(block) {
		command, _, _ := strings.Cut(line, "  #")
		if command = strings.TrimSpace(command); command == "make image" {
			continue // make cluster-test ran it
		}
		start := time.Now()
		printed = c.run("env", "KUBECONFIG="+c.path("k8s/admin.kubeconfig"), "HOME="+c.path("home"), "sh", "-c", command)
		c.Logf("%.1f s: %s\n%s", time.Since(start).Seconds(), command, printed)
	}
	return printed
}

// checkout puts what a clone has after `make image` where commands run, and busybox where the runtime finds it: nothing can
// be pulled here.
func (c *cluster) checkout() {
	c.Helper()
	if err := os.CopyFS(c.path("deploy/chart"), os.DirFS(filepath.Join("..", "..", "deploy", "chart"))); err != nil {
		c.Fatal(err)
	}
	c.program("bin/weir-node.oci.tar", filepath.Join(c.weir, "weir-node.oci.tar"))
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		c.Fatal(err)
	}
	i := image.Image{Name: "docker.io/library/busybox:1", Architecture: runtime.GOARCH, Files: []image.File{{Name: "bin/sleep", Text: busybox}}}
	var b bytes.Buffer
	if err := i.Write(&b); err != nil {
		c.Fatal(err)
	}
	c.write("busybox.tar", b.String())
	c.importImage(c.path("busybox.tar"))
}

func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}
