// SPDX-License-Identifier: Apache-2.0

// Command release builds what is shipped of a revision: static programs for each architecture, archives with manual
// pages and completions, packages for Debian and for RPM, container images, lists of what each program holds,
// licences, and checksums.
//
// Two runs on one revision by one version of Go make the same bytes: no path, time, owner or setting of the machine
// enters; times are the commit's. `make release-test` compares two.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	version := flag.String("version", "", "of the release, as v1.2.3 (required)")
	out := flag.String("out", "dist", "the folder that is made; it must not hold anything yet")
	images := flag.String("images", "localhost/weir", "the registry and folder that images are named after")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := release(ctx, *version, *out, *images); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// A build is one revision on its way to files.
type build struct {
	version string // v1.2.3
	images  string // what their names begin with
	commit  string
	date    time.Time // of the commit
	out     string    // what is shipped
	scratch string    // what is not
}

var (
	architectures = []string{"amd64", "arm64"}
	programs      = []string{"weir", "weir-cni", "weir-node", "weir-egress"}
)

func release(ctx context.Context, version, out, images string) error {
	if !strings.HasPrefix(version, "v") {
		return fmt.Errorf("-version %q: want v1.2.3", version)
	}
	if there, err := os.ReadDir(out); err == nil && len(there) > 0 {
		return fmt.Errorf("%s is not empty", out)
	}
	scratch, err := os.MkdirTemp("", "weir-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	b := build{version: version, images: images, out: out, scratch: scratch}
	if b.commit, err = output(ctx, "git", "rev-parse", "HEAD"); err != nil {
		return err
	}
	date, err := output(ctx, "git", "show", "-s", "--format=%cI", "HEAD")
	if err != nil {
		return err
	}
	if b.date, err = time.Parse(time.RFC3339, date); err != nil {
		return err
	}
	b.date = b.date.UTC()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return b.make(ctx)
}

func (b build) make(ctx context.Context) error {
	manual, err := b.manual(ctx)
	if err != nil {
		return err
	}
	for _, arch := range architectures {
		bin, err := b.compile(ctx, arch)
		if err != nil {
			return err
		}
		licences, err := b.licences(ctx, bin)
		if err != nil {
			return err
		}
		if err := b.inventories(ctx, arch, bin); err != nil {
			return err
		}
		all := append(append(append([]file{}, bin...), manual...), licences...)
		if err := b.archive(arch, all); err != nil {
			return err
		}
		if err := b.packages(ctx, arch, all); err != nil {
			return err
		}
		if err := b.containers(arch, bin); err != nil {
			return err
		}
	}
	return checksums(b.out)
}

// compile builds each program that the module has for an architecture.
func (b build) compile(ctx context.Context, arch string) ([]file, error) {
	var made []file
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join("cmd", p)); err != nil {
			continue
		}
		to := filepath.Join(b.scratch, arch, p)
		if err := b.compiled(ctx, arch, "urfave_cli_no_docs", p, to); err != nil {
			return nil, err
		}
		made = append(made, file{from: to, path: "usr/bin/" + p, mode: 0o755})
	}
	return made, nil
}

func (b build) compiled(ctx context.Context, arch, tags, program, to string) error {
	const pkg = "github.com/weir-mesh/weir/internal/version."
	return run(ctx, []string{"GOOS=linux", "GOARCH=" + arch}, "go", "build", "-tags", tags,
		"-ldflags", "-s -w -buildid= -X "+pkg+"release="+b.version+" -X "+pkg+"commit="+b.commit+" -X "+pkg+"date="+b.date.Format(time.RFC3339),
		"-o", to, "./cmd/"+program)
}

// manual makes the manual pages and the completions of shells, by a build that carries their writers.
func (b build) manual(ctx context.Context) ([]file, error) {
	pages := filepath.Join(b.scratch, "man")
	host, err := output(ctx, "go", "env", "GOHOSTARCH")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(pages, 0o755); err != nil {
		return nil, err
	}
	writer := func(program string) string { return filepath.Join(b.scratch, "writer-"+program) }
	for _, program := range []string{"weir", "weir-egress"} {
		if err := b.compiled(ctx, host, "man", program, writer(program)); err != nil {
			return nil, err
		}
		if err := run(ctx, nil, writer(program), "man", pages); err != nil {
			return nil, err
		}
	}
	var made []file
	names, err := os.ReadDir(pages)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		made = append(made, file{from: filepath.Join(pages, n.Name()), path: "usr/share/man/man8/" + n.Name(), mode: 0o644})
	}
	for _, s := range []struct{ shell, path string }{
		{"bash", "usr/share/bash-completion/completions/weir"},
		{"zsh", "usr/share/zsh/vendor-completions/_weir"},
		{"fish", "usr/share/fish/vendor_completions.d/weir.fish"},
	} {
		script, err := output(ctx, writer("weir"), "completion", s.shell)
		if err != nil {
			return nil, err
		}
		to := filepath.Join(b.scratch, "completion."+s.shell)
		if err := os.WriteFile(to, []byte(script+"\n"), 0o644); err != nil {
			return nil, err
		}
		made = append(made, file{from: to, path: s.path, mode: 0o644})
	}
	return made, nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// goSettings are the settings of the go command that would otherwise be the user's, and enter what it builds.
func goSettings() []string {
	return []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off"}
}

// run runs a program of the build, with more of an environment; what it prints is for people.
func run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), goSettings()...), env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}
