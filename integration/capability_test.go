// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMissingCapability: the capability that is named is the one that is missing, and
// the advice is for where the program runs.
func TestMissingCapability(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	other := c.elsewhere(t)
	pid := fmt.Sprint(other.resident())
	// Another user's namespace, by a name that everybody may open.
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), other.file.Fd())
	const inPod = "securityContext.capabilities.add: [NET_ADMIN]"
	for _, tt := range []struct {
		why      string
		caps     []uintptr
		env      []string
		args     []string
		says     string
		saysNone string
	}{
		{"no capability", nil, nil, []string{"show"}, "needs CAP_NET_ADMIN in the network namespace: ", "SYS_ADMIN"},
		{"no capability, in a pod", nil, []string{"KUBERNETES_SERVICE_HOST=10.96.0.1"}, []string{"show"}, inPod, "unshare"},
		{"no capability, in a pod, to apply", nil, []string{"KUBERNETES_SERVICE_HOST=10.96.0.1"}, with("apply", plainSidecar...), inPod, "unshare"},
		{"no capability, in istio's init container", nil, []string{"KUBERNETES_SERVICE_HOST=10.96.0.1"}, []string{"istio-init", "-i", "*"}, inPod, "unshare"},
		{"CAP_NET_ADMIN, and another namespace", []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE}, nil, []string{"show", "--netns", path}, "CAP_SYS_ADMIN", "this needs CAP_NET_ADMIN"},
		{"CAP_NET_ADMIN, and another namespace, to apply", []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE}, nil, with("apply", append(plainSidecar, "--pid", pid)...), "CAP_SYS_ADMIN", "this needs CAP_NET_ADMIN"},
		{"CAP_NET_ADMIN, and another's process", []uintptr{unix.CAP_NET_ADMIN}, nil, []string{"verify", "--pid", pid}, "CAP_SYS_PTRACE", "this needs CAP_NET_ADMIN"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := c.with(func(c *cli) { c.uid, c.caps, c.env = 65534, tt.caps, tt.env })
			o := n.run(tt.args...).want(t, 1).says(t, tt.says)
			if strings.Contains(o.errs, tt.saysNone) {
				t.Errorf("it speaks of %q: %s", tt.saysNone, o)
			}
		})
	}
}

// TestPatternsElsewhere: commands that take one namespace say so of a pattern.
func TestPatternsElsewhere(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, args := range [][]string{with("apply", plainSidecar...), {"verify"}, {"show"}, {"remove"}} {
		c.run(append(args, "--netns", "weir-none-*")...).want(t, 2).says(t, "only weir ambient pod takes patterns")
	}
	if o := c.run("show", "--netns", "weir-none").want(t, 2); strings.Contains(o.errs, "pattern") {
		t.Errorf("no pattern was given: %s", o)
	}
}
