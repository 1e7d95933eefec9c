// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// kernelTestEnv names the test that a child process has been started for.
const kernelTestEnv = "WEIR_NFT_KERNEL_TEST"

// inNamespace reports whether the test runs in a network namespace of its own.
// Where it does not, the test is run again in a child process that does, with
// all its threads, and takes over its outcome: the caller just returns.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(kernelTestEnv) == t.Name() {
		return true
	}
	if _, err := exec.LookPath("nft"); err != nil {
		skipKernel(t, err)
	}
	output, err := runInNamespace(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	if errors.Is(err, unix.EPERM) {
		output, err = runInNamespace(t, &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWNET | unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		})
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Fatalf("in its namespace: %v\n%s", err, output)
	case err != nil:
		skipKernel(t, err)
	}
	t.Logf("in its namespace:\n%s", output)
	return false
}

func runInNamespace(t *testing.T, attr *syscall.SysProcAttr) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	limit, told := 5*time.Minute, io.Writer(&output)
	if os.Getenv(roundTripEnv) != "" {
		limit, told = 100*time.Hour, io.MultiWriter(&output, os.Stdout) // a person watches
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	attr.Pdeathsig = syscall.SIGKILL
	cmd := exec.CommandContext(ctx, self, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.count=1", "-test.v", fmt.Sprintf("-test.short=%t", testing.Short()))
	// The race detector would have each child sleep for a second at its end.
	cmd.Env = append(os.Environ(), kernelTestEnv+"="+t.Name(), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	cmd.SysProcAttr = attr
	cmd.Stdout, cmd.Stderr = told, told
	err = cmd.Run()
	return output.Bytes(), err
}

// skipKernel is a failure in CI, where every kernel test has to run.
func skipKernel(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("no network namespace with nft to be had: %v", why)
	}
	t.Skipf("no network namespace with nft to be had: %v", why)
}

// dialKernel connects to the namespace of the test.
func dialKernel(t *testing.T) *Conn {
	t.Helper()
	c, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// nftLoad loads a script for good: `nft -c` takes scripts that a load refuses.
func nftLoad(script string) error {
	_, err := runNFT(script, "-f", "-")
	return err
}

func nftList(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runNFT("", append([]string{"list"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func runNFT(stdin string, args ...string) (string, error) {
	cmd := exec.Command("nft", args...)
	cmd.Stdin = bytes.NewReader([]byte(stdin))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), errors.Join(err, errors.New(errs.String()))
	}
	return out.String(), nil
}

// replaceKernelTable makes the namespace hold the table, and that alone of ours.
func replaceKernelTable(t *testing.T, c *Conn, table *rules.Table) {
	t.Helper()
	g, err := c.generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &batch{}
	l := lower(b, table)
	l.addTable()
	l.deleteTable()
	l.addTable()
	l.addAll(table, nil)
	if err := c.commit(t.Context(), b, g); err != nil {
		t.Fatalf("%v\nof\n%s", err, rules.State{Table: table})
	}
}

// kernelState is the table weir as the kernel holds it.
func kernelState(t *testing.T, c *Conn) rules.State {
	t.Helper()
	live, err := c.Read(t.Context(), "weir")
	if err != nil {
		t.Fatal(err)
	}
	return rules.State{Table: live.State.Table}
}
