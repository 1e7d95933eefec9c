// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/internal/scratch"
)

// Test tests the proxy that serve is: it listens and carries connections as the Setup asks until ctx
// is done, and then returns nil; two seconds later it is killed. An earlier return fails the subtest
// under way.
//
// serve is run in copies of the test program that have been started inside the network namespace, so
// that each goroutine's sockets are there. A copy runs the test t up to this call and never returns
// from it. What serve writes to the standard output and error is shown where it fails. Test can be
// called once in a test or subtest.
func Test(t *testing.T, serve func(ctx context.Context, s Setup) error) {
	t.Helper()
	playProxy(t.Name(), serve)
	TestCommand(t, func(s Setup) *exec.Cmd { return proxyCommand(t.Name(), s) })
}

// TestCommand tests a proxy that is a program of its own. command makes the command that does what
// the Setup asks; it is started inside the network namespace, and ended by SIGTERM, or SIGKILL two
// seconds later. Its standard input is closed at the same time. What it writes is shown where it
// fails, unless command gives it other streams.
func TestCommand(t *testing.T, command func(s Setup) *exec.Cmd) {
	t.Helper()
	needNamespaces(t)
	for _, via := range []Via{Redirect, TProxy} {
		t.Run(string(via), func(t *testing.T) {
			b := newBench(via, command)
			t.Cleanup(func() {
				if err := b.close(); err != nil {
					t.Error(err)
				}
			})
			for _, f := range families() {
				t.Run(f.name, func(t *testing.T) {
					for _, c := range checks() {
						t.Run(c.name, func(t *testing.T) {
							if err := b.run(t.Context(), c, f); err != nil {
								t.Error(err)
							}
						})
					}
				})
			}
		})
	}
}

// needNamespaces skips the test where no network namespace can be made.
func needNamespaces(t *testing.T) {
	t.Helper()
	ns, err := scratch.NewNamespace()
	switch {
	case errors.Is(err, unix.EPERM):
		t.Skipf("%v (needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run the tests as root, or with unshare -Urn)", err)
	case err != nil:
		t.Fatal(err)
	}
	if err := ns.Close(); err != nil {
		t.Fatal(err)
	}
}
