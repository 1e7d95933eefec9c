// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestCompletions(t *testing.T) {
	for _, tt := range []struct {
		words string // the last may be empty
		want  []string
	}{
		{"ve", []string{"verify", "version"}},
		{"apply --outbound-p", []string{"--outbound-port"}},
		{"apply --ipv6 ", []string{"auto", "enabled", "disabled"}},
		{"apply --inbound-via ", []string{"redirect", "tproxy", "marks", "none"}},
		{"apply --inbound-via t", []string{"tproxy"}},
		{"apply --inbound-via tproxy --dns-cap", []string{"--dns-capture"}},
		{"graph --format ", []string{"mermaid", "html"}},
		{"ambient host p", []string{"plan", "pods"}},
		{"ambient host pods s", []string{"sync"}},
		{"apply --config ", nil}, // a file: the shell knows
		{"nonsense --x", nil},
		{"completion ", []string{"bash", "zsh", "fish"}},
		{"trace --count 1 i", []string{"icmp", "icmpv6"}},
		{"trace tcp ", nil},
		{"compare ", nil},
		{"istio-init --kube", []string{"--kube-virt-interfaces"}},
		{"istio-iptables --dry-run --proxy-u", []string{"--proxy-uid"}},
		{"ambient --vi", []string{"--virt"}},
		{"ambient host --probe-ci", nil},
		{"help gr", []string{"graph"}},
		{"help ambient p", []string{"pod"}},
	} {
		var got []string
		for _, c := range completions(newApp(streams{}, nil), strings.Split(tt.words, " ")) {
			got = append(got, c.word)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q is completed by %q, want %q", tt.words, got, tt.want)
		}
	}
	if all := completions(newApp(streams{}, nil), nil); len(all) < 10 || slices.ContainsFunc(all, func(c candidate) bool { return c.word == "complete" || c.means == "" }) {
		t.Errorf("nothing is completed by %q", all)
	}
}

// TestHelpHasExamples: each command's help shows how it is used.
func TestHelpHasExamples(t *testing.T) {
	for _, c := range newApp(streams{}, nil).Commands {
		if !c.Hidden && c.Name != "help" && !strings.Contains(c.Description, "Example: ") {
			t.Errorf("weir help %s has no example", c.Name)
		}
	}
}
