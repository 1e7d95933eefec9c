// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCounts(t *testing.T) {
	failed := errors.New("exit status 1")
	for _, tt := range []struct {
		why, out                string
		err                     error
		passed, failed, skipped int
		log                     string
	}{
		{"all pass", "=== RUN   TestA\n--- PASS: TestA (0.1s)\n    --- PASS: TestA/b (0.0s)\nPASS\n", nil, 2, 0, 0, ""},
		{"one fails", "=== RUN   TestA\n    a_test.go:1: why\n--- FAIL: TestA (0.1s)\n--- PASS: TestB (0.1s)\n--- SKIP: TestC (0.1s)\n", failed, 1, 1, 1, "why"},
		{"nothing matches", "testing: warning: no tests to run\nPASS\n", nil, 0, 1, 0, "no tests to run"},
		{"it is killed", "--- PASS: TestA (0.1s)\npanic: test timed out\n", failed, 1, 1, 0, "timed out"},
	} {
		r := ofTests(tt.out+"    a_test.go:2: needs Linux 5.13 for z\n", tt.err)
		if len(r.Lacks) != 1 || r.Lacks[0] != "Linux 5.13 for z" {
			t.Errorf("%s: lacks %q", tt.why, r.Lacks)
		}
		if r.Passed != tt.passed || r.Failed != tt.failed || r.Skipped != tt.skipped || !strings.Contains(r.Log, tt.log) || strings.Contains(r.Log, "=== RUN") {
			t.Errorf("%s: %+v", tt.why, r)
		}
	}
}

func TestHear(t *testing.T) {
	console := "booting\r\nweir-kernels: hello\r\nweir-kernels: result {\"Row\":\"modes\",\"Passed\":3}\r\nnoise\r\nweir-kernels: done\r\n"
	results, said, done := hear("", bufio.NewReader(strings.NewReader(console)), func() time.Duration { return 0 })
	if !done || len(results) != 1 || results[0].Passed != 3 || said != "booting\nnoise\n" {
		t.Errorf("heard %+v, %q, %t", results, said, done)
	}
	if _, _, done := hear("", bufio.NewReader(strings.NewReader("panic\n")), func() time.Duration { return 0 }); done {
		t.Error("a guest that ended early is taken for done")
	}
}

func TestMatrix(t *testing.T) {
	text := matrix([]column{{kernel{"bullseye", "5.10"}, "5.10.0-1", []result{
		{Row: "modes", Passed: 3}, {Row: "drift", Failed: 2}, {Row: "kills", Passed: 1, Skipped: 1, Lacks: []string{"Linux 5.18 for y"}}, {Row: lackingRow, Lacks: []string{"x: since Linux 5.12"}},
	}}})
	for _, want := range []string{"every mode | ok |\n", "mended | **2 failed** |\n", "whole | ok, 1 skipped |\n", "- Linux 5.10: a test of row kills does without Linux 5.18 for y; x: since Linux 5.12\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestKept: what is run later takes the place of what was run before, row by row, and the
// matrix is complete once every row of every kernel was run with the same programs.
func TestKept(t *testing.T) {
	h := &host{dir: t.TempDir()}
	h.weir, h.tests = filepath.Join(h.dir, "weir"), filepath.Join(h.dir, "tests")
	for _, name := range []string{h.weir, h.tests} {
		if err := os.WriteFile(name, []byte("one"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var whole []result
	for _, r := range rows {
		whole = append(whole, result{Row: r.name, Passed: 1})
	}
	keeps := func(now ...column) []column {
		all, err := h.keep(now)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	keeps(column{kernels[1], "6.1.0", whole}, column{kernels[0], "5.10.0", whole})
	if complete(keeps()) {
		t.Error("two kernels are complete")
	}
	keeps(column{kernels[2], "6.12.0", whole[1:]})
	all := keeps(column{kernels[2], "6.12.0", []result{{Row: rows[0].name, Failed: 1}}})
	if !complete(all) || all[0].Release != "5.10.0" || !all[2].failed() || all[1].failed() {
		t.Errorf("kept are %+v", all)
	}
	if all = keeps(column{kernels[2], "6.12.0", whole[:1]}); all[2].failed() || !complete(all) {
		t.Errorf("mended, kept are %+v", all)
	}
	if err := os.WriteFile(h.weir, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if all = keeps(column{kernels[0], "5.10.0", whole}); len(all) != 1 || complete(all) {
		t.Errorf("of another program are kept %+v", all)
	}
}

// TestArchive: each entry begins at a multiple of four, and the last is the trailer.
func TestArchive(t *testing.T) {
	var out bytes.Buffer
	a := newArchive(&out)
	a.file("a/b/c", 0o644, []byte("five5"))
	a.file("a/d", 0o755, nil)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for b := out.Bytes(); len(b) > 0; {
		var size, length int
		for i, c := range []byte(string(b[54:62]) + string(b[94:102])) { // two numbers of eight digits
			digit := bytes.IndexByte([]byte("0123456789abcdef"), c)
			if i < 8 {
				size = size<<4 | digit
			} else {
				length = length<<4 | digit
			}
		}
		if string(b[:6]) != "070701" {
			t.Fatalf("no entry at %q", b)
		}
		names = append(names, string(b[110:110+length-1]))
		b = b[(110+length+3)&^3:]
		b = b[(size+3)&^3:]
	}
	if want := []string{"a", "a/b", "a/b/c", "a/d", "TRAILER!!!"}; !slices.Equal(names, want) {
		t.Errorf("the archive has %q, want %q", names, want)
	}
}

func TestModuleName(t *testing.T) {
	for path, want := range map[string]string{
		"lib/modules/5.10/kernel/net/netfilter/nf_tables.ko":              "nf_tables",
		"usr/lib/modules/6.12/kernel/net/ipv4/netfilter/nft-x.ko.xz":      "nft_x",
		"lib/modules/5.10/kernel/fs/ext4/ext4.ko":                         "",
		"usr/share/doc/linux-image/kernel/net/netfilter/README.something": "",
	} {
		if name, needed := moduleName(path); name != want || needed != (want != "") {
			t.Errorf("%s is %q, %t; want %q", path, name, needed, want)
		}
	}
}
