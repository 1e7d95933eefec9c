// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"strings"
	"testing"

	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// TestTrackers: what switches connection tracking on, beside what looks like it.
func TestTrackers(t *testing.T) {
	xtables := func(name string) []rules.Node { return []rules.Node{rules.Opaque{Name: name}} }
	for _, tt := range []struct {
		why    string
		nodes  []rules.Node
		legacy netns.LegacyTable
		want   string
	}{
		{"a state is read", []rules.Node{rules.CTStates.AnyOf(rules.CTInvalid), rules.Drop()}, netns.LegacyTable{}, "chain c of table ip other"},
		{"nat", []rules.Node{rules.L4Proto.Is(rules.TCP), rules.Redirect{}}, netns.LegacyTable{}, "chain c of table ip other"},
		{"iptables-nft reads a state", xtables("match conntrack"), netns.LegacyTable{}, "chain c of table ip other"},
		{"iptables-nft masquerades", xtables("target MASQUERADE"), netns.LegacyTable{}, "chain c of table ip other"},
		{"the kernel's own masquerade", xtables("masq"), netns.LegacyTable{}, "chain c of table ip other"},
		{"iptables-legacy has rules of nat", nil, netns.LegacyTable{Family: "ip", Name: "nat", Rules: 1}, "iptables-legacy's table ip nat"},
		{"notrack", []rules.Node{rules.NoTrack{}}, netns.LegacyTable{}, ""},
		{"tproxy", []rules.Node{rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: 15006}}, netns.LegacyTable{}, ""},
		{"iptables-nft matches something else", xtables("match multiport"), netns.LegacyTable{}, ""},
		{"iptables-legacy's table of nat is empty", nil, netns.LegacyTable{Family: "ip", Name: "nat"}, ""},
		{"iptables-legacy filters", nil, netns.LegacyTable{Family: "ip", Name: "filter", Rules: 3}, ""},
	} {
		chain := &rules.Chain{Name: "c", Rules: []rules.Rule{{Nodes: tt.nodes}}}
		table := &nft.LiveTable{Table: &rules.Table{Name: "other", Chains: []*rules.Chain{chain}}, Family: "ip"}
		if got := strings.Join(trackers([]*nft.LiveTable{table}, []netns.LegacyTable{tt.legacy}), ", "); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.why, got, tt.want)
		}
	}
}
