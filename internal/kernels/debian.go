// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kernel is one of Debian's.
type kernel struct {
	Suite, Version string
}

var kernels = []kernel{
	{"bullseye", "5.10"},
	{"bookworm", "6.1"},
	{"trixie", "6.12"},
}

// kernelFiles are what a package of a kernel holds.
type kernelFiles struct {
	release string
	vmlinuz string            // the file
	modules map[string]module // by name, such as nf_tables
}

// module is a module as its package has it.
type module struct {
	content []byte
	xz      bool
}

// plain is the module that a kernel loads.
func (m module) plain(ctx context.Context) ([]byte, error) {
	if !m.xz {
		return m.content, nil
	}
	cmd := exec.CommandContext(ctx, "xz", "-dc")
	cmd.Stdin = bytes.NewReader(m.content)
	return cmd.Output()
}

// kernel downloads the suite's newest kernel for virtual machines, unless one of that
// version is in the folder.
func (h *host) kernel(ctx context.Context, k kernel) (*kernelFiles, error) {
	pattern := filepath.Join(h.dir, "linux-image-"+k.Version+".*_amd64.deb")
	debs, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	if len(debs) == 0 {
		if err := h.download(ctx, k); err != nil {
			return nil, err
		}
		if debs, err = filepath.Glob(pattern); err != nil || len(debs) == 0 {
			return nil, fmt.Errorf("apt-get left no %s: %w", pattern, err)
		}
	}
	return h.unpack(ctx, debs[len(debs)-1])
}

// download asks apt in a configuration of its own: nothing of the machine's changes.
func (h *host) download(ctx context.Context, k kernel) error {
	apt := filepath.Join(h.dir, "apt-"+k.Suite)
	for _, folder := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(apt, folder), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n", k.Suite)
	if err := os.WriteFile(filepath.Join(apt, "sources.list"), []byte(source), 0o644); err != nil {
		return err
	}
	options := []string{"-q"}
	for _, o := range []string{"Dir::Etc::SourceList=" + apt + "/sources.list", "Dir::Etc::SourceParts=/dev/null", "Dir::State::Lists=" + apt + "/lists",
		"Dir::Cache=" + apt, "Dir::Cache::Archives=" + apt + "/archives", "APT::Sandbox::User=root", "Acquire::Languages=none",
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"} {
		options = append(options, "-o", o)
	}
	if _, err := h.output(ctx, "apt-get", append(options, "update")...); err != nil {
		return err
	}
	about, err := h.output(ctx, "apt-cache", append(options[1:], "show", "linux-image-cloud-amd64")...)
	if err != nil {
		return err
	}
	name := regexp.MustCompile(`(?m)^Depends: (linux-image-\S+)`).FindSubmatch(about)
	if name == nil {
		return fmt.Errorf("linux-image-cloud-amd64 of %s names no kernel:\n%s", k.Suite, about)
	}
	_, err = h.output(ctx, "apt-get", append(options, "download", string(name[1]))...)
	return err
}

// output runs a program in the folder of kernels.
func (h *host) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = h.dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s: %w: %s", name, err, exit.Stderr)
	}
	return out, err
}

// moduleFolders are those whose modules the tests may need.
var moduleFolders = []string{"kernel/net/netfilter/", "kernel/net/ipv4/", "kernel/net/ipv6/", "kernel/net/bridge/", "kernel/drivers/net/",
	"kernel/lib/", "kernel/arch/x86/crypto/", "kernel/crypto/", "kernel/net/802/", "kernel/net/llc/"}

// unpack reads the kernel and its modules of a package. Both dpkg-deb and xz are on
// every Debian; Go's library knows neither format.
func (h *host) unpack(ctx context.Context, deb string) (*kernelFiles, error) {
	data, err := h.output(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	if err != nil {
		return nil, err
	}
	files := &kernelFiles{modules: map[string]module{}}
	for archive := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", deb, err)
		}
		path := strings.TrimPrefix(header.Name, "./")
		if release, ok := strings.CutPrefix(path, "boot/vmlinuz-"); ok {
			files.release, files.vmlinuz = release, filepath.Join(h.dir, "vmlinuz-"+release)
			content, err := io.ReadAll(archive)
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(files.vmlinuz, content, 0o644); err != nil {
				return nil, err
			}
		}
		name, ok := moduleName(path)
		if !ok {
			continue
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files.modules[name] = module{content, strings.HasSuffix(path, ".xz")}
	}
	if files.vmlinuz == "" {
		return nil, fmt.Errorf("%s holds no kernel", deb)
	}
	return files, nil
}

// moduleName is a module's name by its file, for those that may be needed.
func moduleName(path string) (name string, needed bool) {
	base, _, isModule := strings.Cut(filepath.Base(path), ".ko")
	if !isModule {
		return "", false
	}
	for _, folder := range moduleFolders {
		if strings.Contains(path, folder) {
			return strings.ReplaceAll(base, "-", "_"), true
		}
	}
	return "", false
}
