// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, r io.Reader) (names []string, texts map[string][]byte) {
	t.Helper()
	texts = map[string][]byte{}
	for r := tar.NewReader(r); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		texts[h.Name] = append(text, h.Linkname...)
	}
}

// TestWrite follows an archive from its index to the files, digest by digest.
func TestWrite(t *testing.T) {
	i := Image{Name: "localhost:5000/weir:v1", Architecture: "amd64", Config: Config{Entrypoint: []string{"/weir"}},
		Files: []File{{Name: "weir", Text: []byte("program")}, {Name: "tmp/", Mode: 0o1777}, {Name: "opt/cni/bin/a", Text: []byte("a")}, {Name: "opt/cni/b", Link: "bin/a"}}}
	var one, two bytes.Buffer
	if err := errors.Join(i.Write(&one), i.Write(&two)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives of the same files differ")
	}
	_, blobs := read(t, &one)
	follow := func(d descriptor, into any) []byte {
		t.Helper()
		text := blobs[blobName(d)]
		if "sha256:"+digestOf(text) != d.Digest || len(text) != d.Size {
			t.Fatalf("%s is not what its digest says", d.MediaType)
		}
		if into != nil {
			if err := json.Unmarshal(text, into); err != nil {
				t.Fatal(err)
			}
		}
		return text
	}
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config struct{ Entrypoint []string }
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%s, %v", blobs["index.json"], err)
	}
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != i.Name {
		t.Errorf("its name is %q", got)
	}
	follow(index.Manifests[0], &manifest)
	follow(manifest.Config, &config)
	if !slices.Equal(config.Config.Entrypoint, i.Config.Entrypoint) {
		t.Errorf("it starts %q", config.Config.Entrypoint)
	}
	z, err := gzip.NewReader(bytes.NewReader(follow(manifest.Layers[0], nil)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil || config.Rootfs.DiffIDs[0] != "sha256:"+digestOf(plain) {
		t.Errorf("the layer is not what its digest says: %v", err)
	}
	names, files := read(t, bytes.NewReader(plain))
	if want := []string{"weir", "tmp/", "opt/", "opt/cni/", "opt/cni/bin/", "opt/cni/bin/a", "opt/cni/b"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if string(files["weir"]) != "program" || string(files["opt/cni/b"]) != "bin/a" {
		t.Errorf("%q", files)
	}
}

// TestWriteRefuses: images that cannot be so.
func TestWriteRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"weir", "weir", "a name with a tag"},
		{"localhost:5000/weir", "weir", "a name with a tag"},
		{"weir:v1", "../weir", "leaves the image"},
		{"weir:v1", "/weir", "leaves the image"},
		{"weir:v1", "weir", "twice"},
	} {
		files := []File{{Name: tt.file}, {Name: tt.file}}
		if err := (Image{Name: tt.name, Files: files}).Write(io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s of %s: %v, want %q", tt.name, tt.file, err, tt.want)
		}
	}
}
