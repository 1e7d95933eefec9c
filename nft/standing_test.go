// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

func TestLinkRoute(t *testing.T) {
	for _, r := range []rules.Route{
		{Family: rules.IPv4, Table: rules.LocalTable, Dst: netip.MustParsePrefix("127.0.0.1/32"), Device: "eth0"},
		{Family: rules.IPv6, Table: rules.LocalTable, Dst: netip.MustParsePrefix("::1/128"), Device: "metric"},
		{Family: rules.IPv4, Table: 133, Dst: netip.MustParsePrefix("0.0.0.0/0"), Device: "eth0.7"},
		{Family: rules.IPv6, Table: 133, Dst: netip.MustParsePrefix("::/0"), Device: "eth0"},
	} {
		if got, ok := linkRoute(r.String()); !ok || got != r {
			t.Errorf("%s is read as %+v, %v", r, got, ok)
		}
	}
	for _, line := range []string{
		"", "ip route add local default dev lo table 133 protocol 119", "ip rule add priority 1 fwmark 0x1/0x1 lookup 133 protocol 119",
		"ip route add local 127.0.0.1/32 dev eth0 metric 7 table 255 protocol 119",
		"ip route add local 127.0.0.1/32 dev eth0 metric 2048 table 255 protocol 119 and more",
		"ip -6 route add local 127.0.0.1/32 dev eth0 metric 2048 table 255", "ip route add local nowhere dev eth0 metric 2048 table 255 protocol 119",
	} {
		if r, ok := linkRoute(line); ok {
			t.Errorf("%q is read as %+v", line, r)
		}
	}
}

// TestStanding: the routes of interfaces are those of the apply, where all else is as it was written.
func TestStanding(t *testing.T) {
	state := func(name string, links ...rules.IfName) rules.State {
		s := rules.State{Table: &rules.Table{Name: name}}
		for _, l := range links {
			s.Routes = append(s.Routes, rules.Route{Family: rules.IPv4, Table: rules.LocalTable, Dst: netip.MustParsePrefix("127.0.0.1/32"), Device: l})
		}
		return s.Normal()
	}
	written := newTag(state("weir", "eth0", "eth1"), "v1", nil, nil)
	older := written
	older.Schema = tagSchema + 1
	for _, tt := range []struct {
		why   string
		tag   *Tag
		want  rules.State
		links []rules.IfName // that stand
		later []rules.IfName
	}{
		{"nothing changed", &written, state("weir", "eth0", "eth1"), []rules.IfName{"eth0", "eth1"}, nil},
		{"one came", &written, state("weir", "eth0", "eth1", "net1"), []rules.IfName{"eth0", "eth1"}, []rules.IfName{"net1"}},
		{"one went", &written, state("weir", "eth0"), []rules.IfName{"eth0", "eth1"}, nil},
		{"one came for another", &written, state("weir", "eth0", "net1"), []rules.IfName{"eth0", "eth1"}, []rules.IfName{"net1"}},
		{"one came, and the rules are to change", &written, state("other", "eth0", "eth1", "net1"), []rules.IfName{"eth0", "eth1", "net1"}, nil},
		{"nobody knows what was written", nil, state("weir", "net1"), []rules.IfName{"net1"}, nil},
		{"a later weir wrote it", &older, state("weir", "net1"), []rules.IfName{"net1"}, nil},
	} {
		names := func(routes []rules.Route) (out []rules.IfName) {
			for _, r := range routes {
				out = append(out, r.Device)
			}
			return out
		}
		standing, later := (&Live{Tag: tt.tag}).Standing(tt.want)
		if got := names(standing.Routes); !slices.Equal(got, tt.links) {
			t.Errorf("%s: %v stand, want %v", tt.why, got, tt.links)
		}
		if got := names(later); !slices.Equal(got, tt.later) {
			t.Errorf("%s: %v came later, want %v", tt.why, got, tt.later)
		}
	}
}
