// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"strings"
)

// page is the report as the manual has it: where it was measured, each bar with its verdict, and all figures.
func (r report) page() (string, error) {
	var b strings.Builder
	missed := 0
	for _, c := range r.Comparisons {
		if c.Bar != 0 && !c.isMet() {
			missed++
		}
	}
	fmt.Fprintf(&b, "# Performance\n\n`make bench` wrote this page; nothing in it is written by hand.\n\nMeasured on: %s.\n\n", r.Machine)
	fmt.Fprint(&b, "Values are medians of paired rounds, with their quartiles in brackets: contenders take turns, and a ratio is of the same\nround. ")
	fmt.Fprintf(&b, "Of the bars below, %d are missed.\n\n", missed)
	b.WriteString("| against the bars of the design | this run | bar | met |\n| --- | --- | --- | --- |\n")
	for _, c := range r.Comparisons {
		if c.Bar != 0 {
			verdict := "yes"
			if !c.isMet() {
				verdict = "**no**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(c.What), cell(c.value()), cell(c.bar()), verdict)
		}
	}
	b.WriteString("\n| ratios besides | this run |\n| --- | --- |\n")
	for _, c := range r.Comparisons {
		if c.Bar == 0 {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(c.What), cell(c.value()))
		}
	}
	b.WriteString("\n## All figures\n\n```text\n")
	if err := r.print(&b); err != nil {
		return "", err
	}
	b.WriteString("```\n")
	return b.String(), nil
}

// cell is a text within a table of Markdown.
func cell(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "|", `\|`) }
