// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

// newScratch is a network namespace for one test, with lo up.
func newScratch(t *testing.T) *Namespace {
	t.Helper()
	n, err := Open(scratch.ForTest(t).Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// ipRoute runs ip(8) with each command.
func ipRoute(t *testing.T, n *Namespace, commands ...string) {
	t.Helper()
	if out, err := ipBatch(n, strings.Join(commands, "\n")); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
}

func ipBatch(n *Namespace, script string) ([]byte, error) {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script)
	return start(n, cmd)
}

// runIn runs a program in the namespace.
func runIn(n *Namespace, args ...string) ([]byte, error) {
	return start(n, exec.Command(args[0], args[1:]...))
}

func start(n *Namespace, cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.Inside(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	return out.Bytes(), err
}
