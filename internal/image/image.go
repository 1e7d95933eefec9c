// SPDX-License-Identifier: Apache-2.0

// Package image writes container images as OCI archives, which containerd (ctr images import), podman load,
// skopeo, crane and Docker from version 25 on read: one layer, no daemon, and the same bytes for the same files.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Image is a container image of one layer.
type Image struct {
	Name         string // with a tag, such as registry.example/weir:v1
	Architecture string // as Go names it
	Files        []File
	Config       Config
	Labels       map[string]string
}

// File is a file, or a folder where its name ends in a slash, in which case it may have any mode but no text.
// Folders on the way to it are made.
type File struct {
	Name string // without a leading slash
	Mode int64  // 0: 0755
	Text []byte
	Link string // not "": a symbolic link to it
}

// Config is how its program starts.
type Config struct {
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
}

// Kinds of blobs.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// archive collects the blobs of an image.
type archive struct {
	blobs []File
	err   error
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (a *archive) blob(kind string, text []byte) descriptor {
	digest := digestOf(text)
	a.blobs = append(a.blobs, File{Name: "blobs/sha256/" + digest, Mode: 0o644, Text: text})
	return descriptor{MediaType: kind, Digest: "sha256:" + digest, Size: len(text)}
}

func (a *archive) document(v any) []byte {
	text, err := json.Marshal(v)
	a.err = errors.Join(a.err, err)
	return text
}

// Write writes the archive. The error is that an image cannot be so, or of the writer.
func (i Image) Write(w io.Writer) error {
	if repository, tag, tagged := cutTag(i.Name); !tagged || repository == "" || tag == "" {
		return fmt.Errorf("image %q: want a name with a tag", i.Name)
	}
	var plain, packed bytes.Buffer
	if err := writeTar(&plain, i.Files); err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	z := gzip.NewWriter(&packed)
	_, err := z.Write(plain.Bytes())
	if err := errors.Join(err, z.Close()); err != nil {
		return err
	}
	var a archive
	layer := a.blob(layerType, packed.Bytes())
	config := a.blob(configType, a.document(map[string]any{
		"architecture": i.Architecture, "os": "linux",
		"config": map[string]any{"Entrypoint": i.Config.Entrypoint, "Cmd": i.Config.Cmd, "Env": i.Config.Env, "User": i.Config.User, "Labels": i.Labels},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digestOf(plain.Bytes())}},
	}))
	manifest := a.blob(manifestType, a.document(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": []descriptor{layer}}))
	manifest.Platform = &platform{i.Architecture, "linux"}
	manifest.Annotations = map[string]string{"io.containerd.image.name": i.Name, "org.opencontainers.image.ref.name": i.Name}
	files := append([]File{
		{Name: "oci-layout", Mode: 0o644, Text: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{Name: "index.json", Mode: 0o644, Text: a.document(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []descriptor{manifest}})},
		// What docker load reads where it knows no OCI archive.
		{Name: "manifest.json", Mode: 0o644, Text: a.document([]map[string]any{{
			"Config": blobName(config), "RepoTags": []string{i.Name}, "Layers": []string{blobName(layer)}}})},
	}, a.blobs...)
	return errors.Join(a.err, writeTar(w, files))
}

func blobName(d descriptor) string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }

// cutTag cuts a name before its tag; a port is none.
func cutTag(name string) (repository, tag string, tagged bool) {
	at := strings.LastIndex(name, ":")
	if at < strings.LastIndex(name, "/") || at < 0 {
		return name, "", false
	}
	return name[:at], name[at+1:], true
}

// writeTar writes files without times and owners, each folder once before what is in it.
func writeTar(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	made := map[string]bool{".": true}
	folder := func(name string, mode int64) error {
		if made[name] {
			return nil
		}
		made[name] = true
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
	}
	for _, f := range files {
		name := path.Clean(f.Name)
		if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
			return fmt.Errorf("file %q leaves the image", f.Name)
		}
		mode := f.Mode
		if mode == 0 {
			mode = 0o755
		}
		parts := strings.Split(path.Dir(name), "/")
		for n := range parts {
			if err := folder(strings.Join(parts[:n+1], "/"), 0o755); err != nil {
				return err
			}
		}
		if strings.HasSuffix(f.Name, "/") {
			if err := folder(name, mode); err != nil {
				return err
			}
			continue
		}
		if made[name] {
			return fmt.Errorf("file %q is there twice", f.Name)
		}
		made[name] = true
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(f.Text))}
		if f.Link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if f.Link != "" {
			continue
		}
		if _, err := w.Write(f.Text); err != nil {
			return err
		}
	}
	return w.Close()
}
