//go:build linux

package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"
)

// imageArchive is an OCI image of one layer that holds a static busybox, as an archive that runtimes import
// without a registry.
func imageArchive(t testing.TB, name string, busybox []byte) []byte {
	t.Helper()
	type file struct {
		name string
		text []byte
	}
	pack := func(folders []string, files []file) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		var err error
		for _, d := range folders {
			err = errors.Join(err, w.WriteHeader(&tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}))
		}
		for _, f := range files {
			_, wrote := 0, error(nil)
			err = errors.Join(err, w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(f.text))}))
			if err == nil {
				_, wrote = w.Write(f.text)
			}
			err = errors.Join(err, wrote)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	marshal := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var blobs []file
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	blob := func(kind string, text []byte) descriptor {
		sum := sha256.Sum256(text)
		digest := hex.EncodeToString(sum[:])
		blobs = append(blobs, file{"blobs/sha256/" + digest, text})
		return descriptor{MediaType: "application/vnd.oci.image." + kind, Digest: "sha256:" + digest, Size: len(text)}
	}
	layer := blob("layer.v1.tar", pack([]string{"bin", "etc", "proc", "sys", "dev", "run", "tmp"}, []file{{"bin/busybox", busybox}}))
	config := blob("config.v1+json", marshal(map[string]any{"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Cmd": []string{"/bin/busybox", "sleep", "3600"}}, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}}}))
	manifest := blob("manifest.v1+json", marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []descriptor{layer}}))
	manifest.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
	return pack(nil, append([]file{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})}}, blobs...))
}
