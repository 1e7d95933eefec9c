// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"strings"
	"testing"
)

// TestPage: each bar has its verdict, whichever side of it is good, and what has none is listed apart.
func TestPage(t *testing.T) {
	r := report{Machine: "Linux 6.18, 2 CPUs", Processes: []processTable{{"default sidecar", 20, []processRow{
		{What: "weir apply", Programs: 1, Wall: summary{4, 3, 5}, CPU: summary{20, 19, 21}, RSS: summary{16, 16, 16}}}}}, Comparisons: []comparison{
		{What: "apply / nft -f", Value: summary{1.31, 1.2, 1.4}, Bar: 1.5},
		{What: "one CIDR by a session", Unit: "ms", Value: summary{4.87, 4.8, 5}, Bar: 2},
		{What: "rate a|b", Value: summary{1.02, 1.02, 1.02}, Bar: 1.1, AtLeast: true},
		{What: "rate at the bar", Value: summary{1.1, 1.1, 1.1}, Bar: 1.1, AtLeast: true},
		{What: "besides", Value: summary{0.5, 0.4, 0.6}},
	}}
	page := r.page()
	for _, want := range []string{
		"Measured on: Linux 6.18, 2 CPUs.\n",
		"Of the bars below, 2 are missed.\n",
		"| apply / nft -f | 1.31 (1.20-1.40) | ≤ 1.50 | yes |\n",
		"| one CIDR by a session | 4.87 (4.80-5.00) ms | ≤ 2.00 ms | NO |\n",
		"| rate a\\|b | 1.02 | ≥ 1.10 | NO |\n",
		"| rate at the bar | 1.10 | ≥ 1.10 | yes |\n",
		"\n## All figures\n\n| default sidecar, 20 rounds | programs | wall ms | CPU ms | peak RSS MB |\n| --- | --- | --- | --- | --- |\n" +
			"| weir apply | 1 | 4.00 (3.00-5.00) | 20.0 (19.0-21.0) | 16.0 (16.0-16.0) |\n",
		"| ratios besides | this run |\n| --- | --- |\n| besides | 0.50 (0.40-0.60) |\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
