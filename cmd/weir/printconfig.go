// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/modes"
)

// printConfig writes the keys of a configuration that were set, as a document
// that apply accepts. Remarks stand above it as comments.
func printConfig(w io.Writer, c modes.Config, remarks []string) error {
	for _, r := range remarks {
		if _, err := fmt.Fprintf(w, "# %s\n", strings.ReplaceAll(r, "\n", "\n# ")); err != nil {
			return err
		}
	}
	text, err := config.Format(c)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
