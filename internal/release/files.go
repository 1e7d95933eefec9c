// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/image"
)

// A file is what is installed at a path below the root.
type file struct {
	from, path string
	mode       os.FileMode
}

// archive packs files as weir_1.2.3_linux_ARCH.tar.gz, in the order of their paths, owned by root.
func (b build) archive(arch string, files []file) (err error) {
	slices.SortFunc(files, func(x, y file) int { return cmp.Compare(x.path, y.path) })
	name := fmt.Sprintf("weir_%s_linux_%s", strings.TrimPrefix(b.version, "v"), arch)
	to, err := os.Create(filepath.Join(b.out, name+".tar.gz"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	packed := gzip.NewWriter(to)
	defer func() { err = errors.Join(err, packed.Close()) }()
	w := tar.NewWriter(packed)
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, f := range files {
		content, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		// As a folder of its own, without usr/: an archive is unpacked anywhere.
		h := &tar.Header{Name: name + "/" + strings.TrimPrefix(f.path, "usr/"), Mode: int64(f.mode), Size: int64(len(content)), ModTime: b.date, Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return nil
}

// packages makes weir_1.2.3_ARCH.deb and weir-1.2.3.ARCH.rpm by nfpm, whose configuration is JSON here, since that is YAML.
func (b build) packages(ctx context.Context, arch string, files []file) error {
	type info struct {
		Mode  os.FileMode `json:"mode"`
		Owner string      `json:"owner"`
		Group string      `json:"group"`
		MTime string      `json:"mtime"`
	}
	type content struct {
		Source string `json:"src"`
		Path   string `json:"dst"`
		Info   info   `json:"file_info"`
	}
	date := b.date.Format("2006-01-02T15:04:05Z")
	contents := make([]content, 0, len(files))
	for _, f := range files {
		contents = append(contents, content{f.from, "/" + f.path, info{f.mode, "root", "root", date}})
	}
	config, err := json.Marshal(map[string]any{
		"name": "weir", "arch": arch, "platform": "linux", "version": b.version, "mtime": date,
		"section": "net", "maintainer": "The Weir authors <weir@weir.dev>", "license": "Apache-2.0",
		"description": "capture traffic for a proxy with nftables, and prove it\nWeir makes a pod's connections meet the proxy first, over netlink, and reads back what it wrote.",
		"contents":    contents,
		"rpm":         map[string]any{"group": "System Environment/Daemons", "buildhost": "localhost"},
	})
	if err != nil {
		return err
	}
	path := filepath.Join(b.scratch, "nfpm-"+arch+".yaml")
	if err := os.WriteFile(path, config, 0o644); err != nil {
		return err
	}
	for _, packager := range []string{"deb", "rpm"} {
		if err := run(ctx, []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.date.Unix())}, "go", "tool", "-modfile=tools.mod", "nfpm", "package", "--config", path, "--packager", packager, "--target", b.out); err != nil {
			return err
		}
	}
	return nil
}

// containers writes the images of the programs, as OCI archives: weir_1.2.3_linux_ARCH.oci.tar is for init containers,
// weir-node_1.2.3_linux_ARCH.oci.tar for the node's agent, which installs the two others.
func (b build) containers(arch string, programs []file) error {
	paths := map[string]string{}
	for _, p := range programs {
		paths[filepath.Base(p.path)] = p.from
	}
	for _, programs := range [][]string{{"weir"}, {"weir-node", "weir-cni", "weir"}} {
		var files []string
		for _, p := range programs {
			files = append(files, paths[p])
		}
		i, err := image.OfPrograms(b.images+"/"+programs[0]+":"+b.version, files...)
		if err != nil {
			return err
		}
		to, err := os.Create(filepath.Join(b.out, fmt.Sprintf("%s_%s_linux_%s.oci.tar", programs[0], strings.TrimPrefix(b.version, "v"), arch)))
		if err != nil {
			return err
		}
		if err := errors.Join(i.Write(to), to.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checksums writes SHA256SUMS, as sha256sum -c reads it.
func checksums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", h.Sum(nil), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
