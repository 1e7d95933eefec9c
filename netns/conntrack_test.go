// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestStatisticSumsAColumn(t *testing.T) {
	text := "entries  drop early_drop\n0000000a  00000002 00000001\n0000000a  0000000f 00000000\n"
	if got := statistic([]byte(text), "drop"); got != 17 {
		t.Errorf("dropped %d, want 17", got)
	}
	if got := statistic([]byte(text), "none"); got != 0 {
		t.Errorf("an absent column sums to %d", got)
	}
}

// TestSettings reads those of another namespace than this program's.
func TestSettings(t *testing.T) {
	n := newScratch(t)
	ipRoute(t, n, "link add eth0 type veth peer name eth1")
	got, err := n.Sysctls("net/ipv4/conf/*/rp_filter", "net/ipv4/conf/lo/none", "net/none/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 {
		t.Skip("there is no /proc/sys")
	}
	var of []string
	for _, path := range slices.Sorted(maps.Keys(got)) {
		of = append(of, strings.Split(path, "/")[3])
	}
	if want := []string{"all", "default", "eth0", "eth1", "lo"}; !slices.Equal(of, want) {
		t.Errorf("rp_filter of %v, want of %v", of, want)
	}
	if c, err := n.Tracked(); err != nil || c.Known && (c.Count != 0 || c.Max == 0) {
		t.Errorf("a namespace without connections tracks %+v, %v", c, err)
	}
}
