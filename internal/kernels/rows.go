// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// row is something that a kernel does or does not.
type row struct {
	name, why string
	do        func(ctx context.Context) result
}

// lackingRow is told in words, below the matrix.
const lackingRow = "what is lacking"

// rows are the matrix's, in their order.
var rows = []row{
	{"modes", "plan, apply, verify, show and remove of every mode", tests(`^TestEveryMode$`)},
	{"conformance: sidecar", "1,175 packets to a redirecting sidecar end where they ended with the reference", conformance("redirect")},
	{"conformance: sidecar, TPROXY", "the same with TPROXY", conformance("tproxy")},
	{"conformance: sidecar, dual stack", "the same with both families", conformance("redirect-dual-stack")},
	{"conformance: ambient pod", "the same of an ambient pod", conformance("ambient")},
	{"conformance: DNS", "the same with DNS captured", conformance("dns-all")},
	{"untracked", "without connection tracking, packets end where they ended with the reference, by three of its tables", tests(`^TestUntrackedFates$/^(redirect-dual-stack|tproxy|dns-all)$`)},
	{"untracked lives", "connections that are captured so live and die in every way and lose nothing, or nothing leaves", tests(`^(TestUntrackedLife|TestUntrackedFailsClosed)$`)},
	{"untracked UDP", "datagrams that are captured so are answered from the address asked", tests(`^TestUntrackedUDP$`)},
	{"drift", "each seventh of the changes by others that the tests know is found, named and mended", tests(`^(TestDrift|TestNoDrift)$`)},
	{"kills", "of 20 applies that are killed, each leaves the former rules or the new ones, whole", tests(`^TestKilled$`)},
	{"trace", "packets are followed across the rules", tests(`^(TestTrace|TestTraceInWords|TestTraceKilled|TestTraceInterrupted)$`)},
	{"doctor", "the doctor names what is wrong with a namespace", testsBut(`^TestDoctor$`, `^TestDoctor$/(iptables|left-overs_of_others|tracker_is_full)`)},
	{"doctor, traffic", "and proves a configuration with traffic", tests(`^TestDoctorTraffic$`)},
	{lackingRow, "what the doctor says that this kernel lacks", lacking},
}

// result is what became of a row.
type result struct {
	Row     string
	Passed  int
	Failed  int
	Skipped int
	Lacks   []string // in the doctor's words
	Times   []string // of its tests, as they say them, where they are asked for
	Took    time.Duration
	Log     string // of a failure
}

func (r result) ok() bool { return r.Failed == 0 }

func (r result) String() string {
	text := fmt.Sprintf("%d passed", r.Passed)
	if r.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", r.Skipped)
	}
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d FAILED\n%s", r.Failed, r.Log)
	}
	if len(r.Lacks) > 0 {
		text += ", lacks " + strings.Join(r.Lacks, "; ")
	}
	text += ", " + r.Took.Round(time.Second).String()
	for _, t := range r.Times {
		text += "\n      " + t
	}
	return text
}

func conformance(table string) func(context.Context) result {
	return tests(`^TestConformance$/^tables$/^` + table + `$`)
}

// tests runs those kernel tests that match the pattern.
func tests(run string) func(context.Context) result { return testsBut(run, "") }

// testsBut runs those kernel tests that match the one pattern and not the other, both as the
// go command takes them: what is below a test stands behind a slash.
func testsBut(run, skip string) func(context.Context) result {
	return func(ctx context.Context) result {
		args := []string{"-test.run=" + run, "-test.skip=" + skip, "-test.short", "-test.v", "-test.timeout=30m"}
		cmd := exec.CommandContext(ctx, "/integration/tests", args...)
		cmd.Dir, cmd.Env = "/integration", append(os.Environ(), "WEIR_TEST_PROGRAM=/bin/weir")
		out, err := cmd.CombinedOutput()
		return ofTests(string(out), err)
	}
}

var ending = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): `)

var timed = regexp.MustCompile(`(?m)^ *--- [A-Z]+: (.*)$`)

// lacked is what a test says that it does without, and the version that brings it.
var lacked = regexp.MustCompile(`(?m)needs (Linux \d+\.\d+ for .*)$`)

// ofTests counts the tests of an output. One without a test has failed.
func ofTests(out string, err error) (r result) {
	for _, m := range ending.FindAllStringSubmatch(out, -1) {
		switch m[1] {
		case "PASS":
			r.Passed++
		case "FAIL":
			r.Failed++
		case "SKIP":
			r.Skipped++
		}
	}
	for _, m := range timed.FindAllStringSubmatch(out, -1) {
		r.Times = append(r.Times, m[1])
	}
	for _, m := range lacked.FindAllStringSubmatch(out, -1) {
		r.Lacks = append(r.Lacks, m[1])
	}
	if r.Failed == 0 && (err != nil || r.Passed+r.Skipped == 0) {
		r.Failed = 1
		out += fmt.Sprintf("\n%v", err)
	}
	if r.Failed > 0 {
		const most = 6 << 10
		quiet := regexp.MustCompile(`(?m)^(=== .*| *--- PASS: .*)\n`).ReplaceAllString(out, "")
		r.Log = quiet[:min(len(quiet), most)]
	}
	return r
}

// lacking asks the doctor.
func lacking(ctx context.Context) (r result) {
	cmd := exec.CommandContext(ctx, "/bin/weir", "doctor", "--json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var report struct {
		Checks []struct{ Check, Status, Finding, Remedy string }
	}
	if jsonErr := json.Unmarshal(out.Bytes(), &report); jsonErr != nil {
		return result{Failed: 1, Log: fmt.Sprintf("%v, %v: %s%s", err, jsonErr, &out, &errs)}
	}
	r.Passed = 1
	for _, c := range report.Checks {
		if text := c.Check + ": " + c.Finding + " (" + c.Remedy + ")"; c.Status != "ok" && strings.Contains(text, "Linux ") {
			r.Lacks = append(r.Lacks, text)
		}
	}
	return r
}
