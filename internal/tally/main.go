// SPDX-License-Identifier: Apache-2.0

// Command tally runs go test and counts. It prints what go test prints; of tests that
// pass, their output with -v alone.
//
//	tally [-v] [-o FILE] -- ARGUMENTS [-- ARGUMENTS ...]
//
// Each list of arguments is a run of go test. The file gets the counts of all runs, in
// words. It exits 1 where a run failed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	verbose := flag.Bool("v", false, "print what passing tests print")
	file := flag.String("o", "", "write the counts to `FILE`")
	flag.Parse()
	t := &tally{out: os.Stdout, verbose: *verbose, packages: map[string]bool{}}
	failed := false
	for runs := flag.Args(); len(runs) > 0; {
		args := runs
		if end := slices.Index(runs, "--"); end >= 0 {
			args, runs = runs[:end], runs[end+1:]
		} else {
			runs = nil
		}
		if err := t.run(args); err != nil {
			fmt.Fprintf(os.Stderr, "go test %s: %v\n", strings.Join(args, " "), err)
			failed = true
		}
	}
	fmt.Println(t)
	if *file != "" {
		if err := os.WriteFile(*file, []byte(t.String()+"\n"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			failed = true
		}
	}
	if failed || t.failed > 0 {
		os.Exit(1)
	}
}

// event is what go test -json writes a line of (go doc test2json).
type event struct {
	Action, Package, Test, Output string
}

type testName struct{ pkg, test string }

// tally counts tests, those below others too.
type tally struct {
	out                     io.Writer
	verbose                 bool
	packages                map[string]bool
	passed, failed, skipped int
	held                    []event // the output of tests that have not ended
}

func (t *tally) String() string {
	text := fmt.Sprintf("%d packages, %d tests, %d skipped", len(t.packages), t.passed+t.failed+t.skipped, t.skipped)
	if t.failed > 0 {
		text += fmt.Sprintf(", %d FAILED", t.failed)
	}
	return text
}

func (t *tally) run(args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := t.read(out)
	if err := cmd.Wait(); err != nil {
		return err
	}
	return readErr
}

func (t *tally) read(from io.Reader) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				e = event{Action: "output", Output: string(line)} // the go command's own words
			}
			t.take(e)
		}
		if err == io.EOF {
			t.release(testName{}, true)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) take(e event) {
	switch e.Action {
	case "output", "build-output":
		if e.Test != "" {
			t.held = append(t.held, e)
		} else if e.Output != "PASS\n" {
			fmt.Fprint(t.out, e.Output)
		}
	case "pass", "fail", "skip":
		t.end(e)
	}
}

func (t *tally) end(e event) {
	if e.Test == "" {
		if e.Action != "skip" { // it has no tests
			t.packages[e.Package] = true
		}
		t.release(testName{e.Package, ""}, true)
		return
	}
	switch e.Action {
	case "pass":
		t.passed++
	case "fail":
		t.failed++
	case "skip":
		t.skipped++
	}
	t.release(testName{e.Package, e.Test}, t.verbose || e.Action != "pass")
}

// release drops what is held of a test, or of all tests of a package, or of all, and
// prints it first or not.
func (t *tally) release(of testName, show bool) {
	t.held = slices.DeleteFunc(t.held, func(e event) bool {
		if of.pkg != "" && e.Package != of.pkg || of.test != "" && e.Test != of.test {
			return false
		}
		if show {
			fmt.Fprint(t.out, e.Output)
		}
		return true
	})
}
