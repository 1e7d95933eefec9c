// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/consul"
	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/internal/kuma"
	"github.com/weir-mesh/weir/internal/linkerd"
)

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// found are the first groups of all matches, sorted, each once.
func found(pattern, text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// below is what stands below a heading of a document.
func below(t *testing.T, document, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(document, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// TestREADMESaysWhatThereIs compares the README's lists with the program's.
func TestREADMESaysWhatThereIs(t *testing.T) {
	readme := readText(t, "../../README.md")
	there := below(t, readme, "Commands")

	var commands []string
	for _, c := range newApp(streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}, nil).Commands {
		if c.Name != "help" && !c.Hidden {
			commands = append(commands, c.Name)
		}
	}
	slices.Sort(commands)
	if listed := found(`(?m)^weir ([a-z-]+)`, there); !slices.Equal(listed, commands) {
		t.Errorf("the README lists the commands %q, there are %q", listed, commands)
	}

	var codes []string
	for _, c := range []int{exitDone, exitFailed, exitUsage, exitDiffers, exitInvalid} {
		codes = append(codes, strconv.Itoa(c))
	}
	slices.Sort(codes)
	if listed := found(`(?m)^\| (\d+) \|`, there); !slices.Equal(listed, codes) {
		t.Errorf("the README lists the exit codes %q, there are %q", listed, codes)
	}

	makefile := readText(t, "../../Makefile")
	for _, target := range found("(?m)(?:^|`)make ([a-z-]+)", readme+readText(t, "../../CONTRIBUTING.md")) {
		if !strings.Contains(makefile, "\n"+target+":") {
			t.Errorf("make %s is documented, and the Makefile has no such target", target)
		}
	}

	if lines := strings.Count(readme, "\n"); lines > 150 {
		t.Errorf("the README has %d lines, 150 are the most: docs/ has room", lines)
	}
}

// TestLinks: what a page links to is there. The page that make bench writes may not have been written yet.
func TestLinks(t *testing.T) {
	written := found(`-write (docs/[a-z]+\.md)`, readText(t, "../../Makefile"))
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md", "../../CHANGELOG.md", "../../deploy/README.md") {
		text := readText(t, page)
		for _, link := range slices.Concat(found(`\]\(([^)#]+)`, text), found(`src(?:set)?="([^"]+)"`, text)) {
			file := filepath.Join(filepath.Dir(page), link)
			_, err := os.Stat(file)
			if err != nil && !strings.Contains(link, "://") && !slices.Contains(written, strings.TrimPrefix(file, "../../")) {
				t.Errorf("%s links to %s: %v", page, link, err)
			}
		}
	}
}

// TestDocumentedFlags: a flag that the README or a page of the manual mentions is some command's.
func TestDocumentedFlags(t *testing.T) {
	known := flagNames(newApp(streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}, nil).Commands)
	for _, f := range slices.Concat(istio.Flags(), linkerd.Flags(), kuma.Flags(), consul.Flags()) {
		known = append(known, "--"+f.Name)
	}
	known = append(known, "--image", "--profile", "--net", "--bind", "--retry", "--retry-connrefused") // of kubectl, unshare, python3 and curl
	beside, err := filepath.Glob("../weir-*/*.go")                                                     // other programs, which no test can import: their source names their flags
	if err != nil || len(beside) == 0 {
		t.Fatalf("no other programs: %v", err)
	}
	for _, file := range beside {
		for _, name := range found(`Flag\{Name: "([a-z-]+)"`, readText(t, file)) {
			known = append(known, "--"+name)
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range append(pages, "../../README.md") {
		for _, flag := range found("(?:^|[ `(])(--[a-z][a-z0-9_-]*[a-z0-9])", readText(t, page)) {
			if !slices.Contains(known, flag) {
				t.Errorf("%s says %s, and no command has it", page, flag)
			}
		}
	}
}

func flagNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		for _, f := range c.Flags {
			for _, name := range f.Names() {
				names = append(names, "--"+name)
			}
		}
		names = append(names, flagNames(c.Subcommands)...)
	}
	return names
}

// TestFeatures: each feature has an example, which integration's TestBlocks plans.
func TestFeatures(t *testing.T) {
	text := below(t, readText(t, "../../docs/configuration.md"), "Examples")
	features := strings.Split(text, "\n**")[1:]
	if len(features) == 0 {
		t.Error("there are no features")
	}
	for _, f := range features {
		if !strings.Contains(f, "```yaml\n") {
			t.Errorf("this feature has no example: **%s", f)
		}
	}
}
