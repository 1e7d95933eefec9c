// SPDX-License-Identifier: Apache-2.0

// Command pack makes a container image of programs: pack -name NAME:TAG -o FILE PROGRAM... has each in the
// root folder, and starts the first. /var/run is /run there, as on the nodes whose folders are mounted in it.
package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weir-mesh/weir/internal/image"
)

func main() {
	name := flag.String("name", "", "the image's name, with a tag")
	out := flag.String("o", "", "the archive to write")
	flag.Parse()
	if err := pack(*name, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(name, out string, programs []string) error {
	if name == "" || out == "" || len(programs) == 0 {
		return errors.New("want -name NAME:TAG, -o FILE and programs")
	}
	i := image.Image{Name: name, Config: image.Config{Entrypoint: []string{"/" + filepath.Base(programs[0])}},
		Files: []image.File{{Name: "run/"}, {Name: "tmp/", Mode: 0o1777}, {Name: "var/run", Link: "../run"}}}
	for _, p := range programs {
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		architecture, err := staticFor(text)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", p, err)
		case i.Architecture != "" && i.Architecture != architecture:
			return fmt.Errorf("%s is for %s, and %s for %s", p, architecture, programs[0], i.Architecture)
		}
		i.Architecture = architecture
		i.Files = append(i.Files, image.File{Name: filepath.Base(p), Text: text})
	}
	var archive bytes.Buffer
	if err := i.Write(&archive); err != nil {
		return err
	}
	return os.WriteFile(out, archive.Bytes(), 0o644)
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
