// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestLegacyTables(t *testing.T) {
	n := newScratch(t)
	none, err := n.LegacyTables()
	if err != nil || len(none) > 0 {
		t.Fatalf("a new namespace has %v, %v", none, err)
	}
	for _, args := range [][]string{
		{"iptables-legacy", "-t", "nat", "-N", "ISTIO_OUTPUT"},
		{"iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "ISTIO_OUTPUT"},
		{"iptables-legacy", "-t", "nat", "-A", "ISTIO_OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "15001"},
		{"ip6tables-legacy", "-t", "nat", "-N", "SIX"},
		{"ip6tables-legacy", "-t", "nat", "-N", "SEVEN"},
	} {
		if out, err := runIn(n, args...); err != nil {
			t.Logf("not tried: this kernel has no iptables-legacy: %v: %s", err, out)
			return
		}
	}
	got, err := n.LegacyTables()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Rules != 2 || got[1].Rules != 0 || got[0].Family != "ip" || got[0].Name != "nat" || !slices.Equal(got[0].Chains, []string{"ISTIO_OUTPUT"}) ||
		got[1].Family != "ip6" || !slices.Equal(got[1].Chains, []string{"SEVEN", "SIX"}) && !slices.Equal(got[1].Chains, []string{"SIX", "SEVEN"}) {
		t.Errorf("read %+v", got)
	}
}

// TestLegacyTablesWhileTheyChange reads beside a program that makes a table larger
// and smaller.
func TestLegacyTablesWhileTheyChange(t *testing.T) {
	n := newScratch(t)
	restore := exec.Command("iptables-legacy-restore")
	restore.Stdin = strings.NewReader(strings.Repeat("*nat\n:MORE -\nCOMMIT\n*nat\nCOMMIT\n", 2000))
	var said strings.Builder
	restore.Stderr = &said
	if err := n.Inside(restore.Start); err != nil {
		t.Skip(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- restore.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Logf("not tried: this kernel has no iptables-legacy: %v: %s", err, said.String())
			}
			return
		default:
			if _, err := n.LegacyTables(); err != nil {
				t.Error(err)
			}
		}
	}
}
