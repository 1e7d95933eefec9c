// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// OfPrograms is the image of static programs: each is in the root folder, and the first is started. /var/run is /run
// there, as on the nodes whose folders are mounted in it. The error is that a file cannot be read, is not a static
// program, or is for another architecture than the first.
func OfPrograms(name string, files ...string) (Image, error) {
	i := Image{Name: name, Files: []File{{Name: "run/"}, {Name: "tmp/", Mode: 0o1777}, {Name: "var/run", Link: "../run"}}}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return Image{}, err
		}
		architecture, err := staticFor(text)
		switch {
		case err != nil:
			return Image{}, fmt.Errorf("%s: %w", f, err)
		case i.Architecture != "" && i.Architecture != architecture:
			return Image{}, fmt.Errorf("%s is for %s, and %s for %s", f, architecture, files[0], i.Architecture)
		}
		if i.Architecture == "" {
			i.Architecture, i.Config.Entrypoint = architecture, []string{"/" + filepath.Base(f)}
		}
		i.Files = append(i.Files, File{Name: filepath.Base(f), Text: text})
	}
	return i, nil
}

// staticFor is the architecture of a program, which must be static: the image holds no libraries.
func staticFor(text []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", errors.New("it is not static (want CGO_ENABLED=0)")
		}
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	case elf.EM_S390:
		return "s390x", nil
	}
	return "", fmt.Errorf("%s is not known", f.Machine)
}
