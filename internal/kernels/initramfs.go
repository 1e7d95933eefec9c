// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// wantedModules are loaded at the start, with those that they depend on: in the machine
// no modprobe answers the kernel.
var wantedModules = []string{"veth", "dummy", "nlmon", "tun", "inet_diag", "tcp_diag", "udp_diag", "nfnetlink", "nf_tables", "nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nft_chain_nat",
	"nft_ct", "nft_nat", "nft_redir", "nft_tproxy", "nft_socket", "nft_fib", "nft_fib_ipv4", "nft_fib_ipv6", "nft_fib_inet", "nft_reject", "nft_reject_inet",
	"nft_log", "nft_limit", "nft_masq", "nft_numgen", "nft_hash", "nft_quota", "nft_counter", "nft_objref", "nft_connlimit", "nf_tproxy_ipv4",
	"nf_tproxy_ipv6", "nf_socket_ipv4", "nf_socket_ipv6", "nf_log_syslog", "nf_log_ipv4", "nf_log_ipv6", "nf_reject_ipv4", "nf_reject_ipv6",
	"nft_reject_ipv4", "nft_reject_ipv6"}

// guestPrograms are those that the tests run, by the path that they have there.
var guestPrograms = map[string]string{"nft": "bin/nft", "ip": "bin/ip", "ss": "bin/ss", "dash": "bin/sh", "tee": "bin/tee", "cat": "bin/cat"}

// initramfs writes the archive that a kernel starts from.
func (h *host) initramfs(ctx context.Context, k *kernelFiles) (path string, err error) {
	file, err := os.Create(filepath.Join(h.dir, "initramfs-"+k.release))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	zip, err := gzip.NewWriterLevel(file, gzip.BestSpeed)
	if err != nil {
		return "", err
	}
	a := newArchive(zip)
	if err := h.fill(ctx, a, k); err != nil {
		return "", err
	}
	return file.Name(), errors.Join(a.close(), zip.Close())
}

func (h *host) fill(ctx context.Context, a *archive, k *kernelFiles) error {
	for _, folder := range []string{"dev", "proc", "sys", "tmp", "run", "root", "var", "var/run"} {
		a.folder(folder)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for from, to := range map[string]string{self: "init", h.weir: "bin/weir", h.tests: "integration/tests"} {
		if err := a.copy(from, to); err != nil {
			return err
		}
	}
	for to, text := range map[string]string{"etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", "etc/group": "root:x:0:\nnogroup:x:65534:\n",
		"etc/hosts": "127.0.0.1 localhost\n", "etc/resolv.conf": "nameserver 127.0.0.1\n"} {
		a.file(to, 0o644, []byte(text))
	}
	for name, to := range guestPrograms {
		if err := addProgram(a, name, to); err != nil {
			return err
		}
	}
	modules, err := loadOrder(ctx, k.modules)
	if err != nil {
		return err
	}
	for i, m := range modules {
		a.file(fmt.Sprintf("modules/%03d-%s.ko", i, m.name), 0o644, m.content)
	}
	return filepath.WalkDir(h.testdata, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		below, err := filepath.Rel(h.testdata, path)
		if err != nil {
			return err
		}
		return a.copy(path, filepath.Join("integration/testdata", below))
	})
}

// loaded is a module that is to be loaded.
type loaded struct {
	name    string
	content []byte
}

// loadOrder is the wanted modules that a kernel has, each after those that it needs.
func loadOrder(ctx context.Context, modules map[string]module) (order []loaded, err error) {
	met := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		m, has := modules[name]
		if !has || met[name] {
			return nil
		}
		met[name] = true
		content, err := m.plain(ctx)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, other := range dependencies(content) {
			if err := add(other); err != nil {
				return err
			}
		}
		order = append(order, loaded{name, content})
		return nil
	}
	for _, name := range wantedModules {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// dependencies are the modules that one says it needs.
func dependencies(module []byte) []string {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil || f.Section(".modinfo") == nil {
		return nil
	}
	info, err := f.Section(".modinfo").Data()
	if err != nil {
		return nil
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ",")
		}
	}
	return nil
}

var libraryFolders = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"}

// addProgram adds a program and the libraries that it is linked with.
func addProgram(a *archive, name, to string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; !exists(path) {
			return err
		}
	}
	if err := a.copy(path, to); err != nil {
		return err
	}
	return addLibraries(a, path)
}

func addLibraries(a *archive, path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			loader, err := io.ReadAll(p.Open())
			if err != nil {
				return err
			}
			at := strings.TrimRight(string(loader), "\x00")
			if err := a.copy(at, at[1:]); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(libraryFolders, func(folder string) bool { return exists(filepath.Join(folder, name)) })
		if i < 0 {
			return fmt.Errorf("%s: no library %s", path, name)
		}
		library, to := filepath.Join(libraryFolders[i], name), filepath.Join(libraryFolders[0][1:], name)
		if a.has(to) {
			continue
		}
		if err := errors.Join(a.copy(library, to), addLibraries(a, library)); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// archive is a cpio archive of the newc format, as the kernel unpacks it
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w     *bufio.Writer
	names map[string]bool
	inode int
	err   error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriter(w), names: map[string]bool{}}
}

func (a *archive) has(path string) bool { return a.names[path] }

func (a *archive) copy(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	a.file(to, 0o755, content)
	return a.err
}

func (a *archive) folder(path string) {
	if path == "." || a.names[path] {
		return
	}
	a.folder(filepath.Dir(path))
	a.entry(path, 0o040755, nil)
}

func (a *archive) file(path string, mode uint32, content []byte) {
	if a.names[path] {
		return
	}
	a.folder(filepath.Dir(path))
	a.entry(path, 0o100000|mode, content)
}

func (a *archive) entry(path string, mode uint32, content []byte) {
	a.names[path] = true
	a.inode++
	// magic, inode, mode, uid, gid, links, time, size, device, device of the node, length of the name, checksum
	_, err := fmt.Fprintf(a.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path)+1, 0)
	const header = 110
	for _, part := range []string{path + "\x00" + padding(header+len(path)+1), string(content) + padding(len(content))} {
		_, werr := a.w.WriteString(part)
		err = errors.Join(err, werr)
	}
	a.err = errors.Join(a.err, err)
}

// padding brings a length to a multiple of four.
func padding(length int) string { return "\x00\x00\x00"[:(4-length%4)%4] }

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return errors.Join(a.err, a.w.Flush())
}
