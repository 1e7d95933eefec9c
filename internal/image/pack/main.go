// SPDX-License-Identifier: Apache-2.0

// Command pack makes a container image of programs: pack -name NAME:TAG -o FILE PROGRAM... has each in the
// root folder, and starts the first.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"

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
	i, err := image.OfPrograms(name, programs...)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := i.Write(&archive); err != nil {
		return err
	}
	return os.WriteFile(out, archive.Bytes(), 0o644)
}
