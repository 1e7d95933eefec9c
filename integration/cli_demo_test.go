// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemo runs the demo as root and as anyone.
func TestDemo(t *testing.T) {
	t.Parallel()
	isolated(t)
	dir := sharedDir(t)
	weir := install(t, dir)
	program, err := build("./internal/demo", "")
	if err != nil {
		t.Fatal(err)
	}
	demo := installAs(t, filepath.Join(dir, "demo"), program)
	t.Run("as root", func(t *testing.T) { runDemo(t, nil, demo, weir) })
	t.Run("as anyone", func(t *testing.T) {
		needUsers(t)
		attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		runDemo(t, attr, demo, weir)
	})
}

func runDemo(t *testing.T, attr *syscall.SysProcAttr, demo, weir string) {
	var out bytes.Buffer
	cmd := exec.Command(demo, weir)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &out, attr
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if attr != nil && strings.Contains(out.String(), "in a user namespace (run as root where the kernel forbids them)") {
		t.Logf("not tried: this kernel forbids it: %s", &out)
		return
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Logf("it took %s", took.Round(time.Millisecond))
	said := out.String()
	for _, want := range []string{
		`application  203\.0\.113\.10:80 +\S+:15001 +203\.0\.113\.10:80 +the remote service`,
		`application  \[2001:db8:cafe::10\]:80 +\S+:15001 +\[2001:db8:cafe::10\]:80 +the remote service`,
		`world +10\.77\.0\.2:8080 +\S+:15006 +10\.77\.0\.2:8080 +the application`,
		`world +\[fd77::2\]:8080 +\S+:15006 +\[fd77::2\]:8080 +the application`,
		`verify inet weir: chain output rule \d+ "all other TCP goes to the outbound listener"`,
		`replaced: inet weir`,
		`clean: inet weir`,
		`removed: inet weir`,
		`the namespace is as it was: the same \d+ tables, policy rules, routes and addresses`,
	} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("nothing like %q in\n%s", want, said)
		}
	}
	if strings.Contains(said, weir) {
		t.Errorf("it shows the binary's path:\n%s", said)
	}
}
