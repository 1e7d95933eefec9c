// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxProgram is how many lines a program may take that captures a pod, without its
// imports.
const maxProgram = 20

// TestAProgramOfItsOwn builds a small program in a module of its own, and has it do all
// that the command does to a pod.
func TestAProgramOfItsOwn(t *testing.T) {
	source := readFile(t, "testdata/library/main.go")
	_, body, _ := strings.Cut(source, "\nfunc main()")
	lines := 1
	for line := range strings.Lines(body) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if lines--; lines > maxProgram { // the cut line is counted twice
		t.Errorf("it takes %d lines without its imports, at most %d", lines, maxProgram)
	}
	program := buildElsewhere(t, source)
	n := newNamespace(t)
	pid, _ := n.idle(newCLI(t).program, "")
	pod := write(t, "pod.yaml", "version: 1\nmode: sidecar\nipv6: disabled\nproxy: {uids: [1337]}\n")
	cmd := exec.CommandContext(t.Context(), program, fmt.Sprint(pid), pod)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	says := bufio.NewScanner(out)
	hear := func(want string) {
		t.Helper()
		if !says.Scan() || says.Text() != want {
			t.Errorf("it says %q, want %q", says.Text(), want)
		}
	}
	hear("to change: 1")
	hear("created")
	n.nft("flush chain inet weir output")
	fmt.Fprintln(in)
	hear(`drift in chain output rule 1 "IPv6 is off in this configuration: left alone"`)
	hear("replaced")
	hear("removed")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left := n.tables(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// buildElsewhere builds a program in a module that requires this one.
func buildElsewhere(t *testing.T, source string) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": source,
		"go.mod":  "module example.org/program\n\ngo 1.26.0\n\nrequire github.com/weir-mesh/weir v0.0.0\n\nreplace github.com/weir-mesh/weir => " + root + "\n",
		"go.sum":  readFile(t, filepath.Join(root, "go.sum")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-mod=mod", "-o", "program", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, text)
	}
	return filepath.Join(dir, "program")
}
