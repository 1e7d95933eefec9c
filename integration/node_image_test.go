// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/weir-mesh/weir/internal/image"
)

// imageArchive is an image that holds a static busybox, as an archive that runtimes import without a registry.
func imageArchive(t testing.TB, name string, busybox []byte) []byte {
	t.Helper()
	i := image.Image{Name: name, Architecture: runtime.GOARCH, Config: image.Config{Cmd: []string{"/bin/busybox", "sleep", "3600"}}, Files: []image.File{
		{Name: "bin/busybox", Text: busybox}, {Name: "etc/"}, {Name: "proc/"}, {Name: "sys/"}, {Name: "dev/"}, {Name: "run/"}, {Name: "tmp/"},
	}}
	var b bytes.Buffer
	if err := i.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
