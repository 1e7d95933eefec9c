// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// column is a kernel of the matrix.
type column struct {
	kernel
	Release string
	Results []result
}

func (c column) failed() bool {
	return slices.ContainsFunc(c.Results, func(r result) bool { return !r.ok() })
}

const notRun = "not run"

func (c column) cell(row string) string {
	i := slices.IndexFunc(c.Results, func(r result) bool { return r.Row == row })
	switch {
	case i < 0:
		return notRun
	case !c.Results[i].ok():
		return fmt.Sprintf("**%d failed**", c.Results[i].Failed)
	case c.Results[i].Skipped > 0:
		return fmt.Sprintf("ok, %d skipped", c.Results[i].Skipped)
	}
	return "ok"
}

// matrix is the document, which names no time: it changes where a kernel does.
func matrix(columns []column) string {
	var out strings.Builder
	fmt.Fprint(&out, "# What holds on which kernel\n\nWritten by `make kernels`, which runs the kernel tests on Debian's kernels for virtual\nmachines, in qemu. What reads \"not run\" has not been tried there.\n\n|")
	for _, c := range columns {
		fmt.Fprintf(&out, " | %s (%s)", c.Version, c.Suite)
	}
	fmt.Fprint(&out, " |\n| ---"+strings.Repeat(" | ---", len(columns))+" |\n")
	for _, r := range rows {
		if r.name == lackingRow {
			continue
		}
		fmt.Fprintf(&out, "| **%s**: %s", r.name, r.why)
		for _, c := range columns {
			fmt.Fprintf(&out, " | %s", c.cell(r.name))
		}
		fmt.Fprint(&out, " |\n")
	}
	fmt.Fprint(&out, "\n## What they lack\n\n")
	for _, c := range columns {
		var lacks []string
		for _, r := range c.Results {
			for _, l := range r.Lacks {
				if r.Row != lackingRow {
					l = "a test of row " + r.Row + " does without " + l
				}
				lacks = append(lacks, l)
			}
		}
		if len(lacks) == 0 {
			lacks = []string{"nothing that weir uses"}
		}
		fmt.Fprintf(&out, "- Linux %s: %s\n", c.Version, strings.Join(lacks, "; "))
	}
	return out.String()
}
